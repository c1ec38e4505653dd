"""The job server: what its processes are given, how their ends are told, and what is left where it or a client ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import warm
from jupyter_client.connect import write_connection_file

from weakseg import __version__, job_server
from weakseg.job_client import SOCKET, status


def end_with(code: int) -> None:
    time.sleep(0.01 * (code % 7))
    sys.exit(code)


def show_surroundings() -> None:
    print(os.getcwd(), sorted(set(os.environ) - {job_server.JOB_SERVER}), sys.stdin.read(), flush=True)
    print("an error", file=sys.stderr)


def wait_with_a_child(noted: str, ends_well: bool) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a shell inherit none
    child = subprocess.Popen(["sleep", "100"])
    if ends_well:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    Path(noted).write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    time.sleep(100)


def use_other_processes() -> None:
    """They wait for more work for minutes, unless they are told that there will be none."""
    from joblib import Parallel, delayed

    assert Parallel(n_jobs=2)(delayed(abs)(number) for number in range(-3, 0)) == [3, 2, 1]


def until(happened: Callable[[], object], seconds: float = 20) -> None:
    last = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < last, "it did not happen"
        time.sleep(0.01)


def lives(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_commands_that_run_side_by_side_are_each_told_their_own_end(tmp_path: Path) -> None:
    def call(code: int) -> int:
        return warm.captured(end_with, code, folder=tmp_path, environment={}).returncode

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(call, range(24))) == list(range(24))


def test_a_job_ends_though_it_used_other_processes(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    started = time.monotonic()
    done = warm.captured(use_other_processes, folder=tmp_path, environment=environment)
    assert done.returncode == 0 and time.monotonic() - started < 60, done.stdout


def test_a_job_has_its_client_s_folder_environment_and_streams(tmp_path: Path) -> None:
    done = warm.captured(show_surroundings, folder=tmp_path, environment={"ONE": "1", "TWO": "2"})
    assert done == (0, f"{tmp_path} ['ONE', 'TWO'] \nan error\n")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, None], ids=["terminated", "interrupted", "gone"])
def test_what_happens_to_a_client_happens_to_its_job_and_all_that_it_started(
    tmp_path: Path, sent: signal.Signals | None
) -> None:
    noted = tmp_path / "noted"
    with open(tmp_path / "output", "w") as output:
        call = warm.begin(
            wait_with_a_child,
            str(noted),
            sent == signal.SIGTERM,
            output=output.fileno(),
            folder=tmp_path,
            environment={},
        )
    until(lambda: noted.exists() and " " in noted.read_text())
    if sent is None:
        call.close()
    else:
        call.send(bytes([sent]))
        assert status(call) == (7 if sent == signal.SIGTERM else 1)
        assert (sent == signal.SIGINT) == ("KeyboardInterrupt" in (tmp_path / "output").read_text())
    until(lambda: not any(map(lives, map(int, noted.read_text().split()))))


def test_a_signal_to_the_client_reaches_the_job(tmp_path: Path) -> None:
    """The command as a shell runs it."""
    noted = tmp_path / "noted"
    script = tmp_path / "script.py"
    script.write_text(f"from test_job_server import wait_with_a_child\nwait_with_a_child({str(noted)!r}, True)\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    client = subprocess.Popen([warm.commands() / "script", script], env=environment)
    until(lambda: noted.exists() and " " in noted.read_text())
    client.terminate()
    assert client.wait(20) == 7


def test_where_no_server_answers_the_command_runs_by_itself(tmp_path: Path) -> None:
    folder, server = job_server.start(preloaded=())
    command = [folder / "weakseg", "--version"]
    early = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    until((folder / SOCKET).exists)
    served = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (folder / SOCKET).unlink()
    without = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert early == served == without == f"{__version__}\n"
    assert server.stdin is not None
    server.stdin.close()
    assert server.wait(20) == 0 and not folder.exists()


def test_a_kernel_ends_when_the_process_that_started_it_was_killed(tmp_path: Path) -> None:
    file, _ = write_connection_file(str(tmp_path / "kernel.json"))
    starter = subprocess.Popen(["sleep", "100"])
    environment = {**os.environ, "JPY_PARENT_PID": str(starter.pid), "IPYTHONDIR": str(tmp_path)}
    kernel = subprocess.Popen([warm.commands() / "kernel", "-f", file], env=environment)
    with pytest.raises(subprocess.TimeoutExpired):
        kernel.wait(3)
    starter.kill()
    starter.wait()
    assert kernel.wait(30) == 1


@pytest.mark.parametrize("name", job_server.PRELOADED)
def test_what_is_imported_beforehand_is_there(name: str) -> None:
    assert find_spec(name), name


def test_a_server_ends_with_the_process_that_started_it() -> None:
    code = "from weakseg import job_server; print(job_server.start(())[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    until(lambda: not Path(done.stdout.strip()).exists())
