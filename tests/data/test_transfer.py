"""Fetching files from a local server that cuts, stalls, lies and refuses."""

import hashlib
import http.server
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pooch
import pytest

from weakseg.data.transfer import Patience, cache_folder, fetch, has_checksum
from weakseg.errors import WeaksegError

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8))
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
PAGE = b"<html>please log in</html>" * 4000  # longer than the file
QUICK = Patience(attempts=3, wait_s=0.01, timeout_s=(2.0, 0.3))


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the first parts of the path say how it misbehaves."""

    def do_GET(self):
        ways = self.path.split("/")[1:-1]
        wanted = self.headers.get("Range")
        asked = self.server.asked
        asked.append((ways[0] if ways else "good", wanted))
        content = (
            PAGE
            if "page" in ways
            else CONTENT[::-1]
            if "lie" in ways
            else CONTENT[: 10_000 if "short" in ways else None]
        )
        begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and not {"page", "norange"} & set(ways) else 0
        if "missing" in ways or re.match("python", self.headers["User-Agent"], re.IGNORECASE):
            return self.send_error(404 if "missing" in ways else 403)
        if "busy" in ways and len(asked) < 3:
            return self.send_error(503)
        if begin >= len(content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if "page" in ways else "application/x-tar")
        if "gzip" in ways:
            self.send_header("Content-Encoding", "gzip")
        if "nolength" not in ways:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = len(content)
        if ("cut" in ways and len(asked) < 3) or "cuts" in ways or ("stall" in ways and len(asked) < 2):
            end = begin + 20_000
        if "slow" in ways:
            time.sleep(0.2)
        self.wfile.write(content[begin:end])
        if end < len(content) and "stall" in ways:
            self.wfile.flush()
            self.server.stop_stalling.wait(5)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.asked, running.stop_stalling = [], threading.Event()
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()

        def address(ways=""):
            return f"http://127.0.0.1:{running.server_port}/{ways}/file.tar".replace("//file", "/file")

        yield SimpleNamespace(at=address, asked=running.asked)
        running.stop_stalling.set()
        running.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "file.tar"


@pytest.fixture
def partial(target):
    target.parent.mkdir()
    return target.with_name("file.tar.partial")


def names(folder):
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")]


def test_a_file_is_fetched_and_then_used_as_it_is(server, target, capsys):
    sha256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    assert fetch(target, [server.at()], sha256, QUICK) == target
    assert fetch(target, [server.at()], MD5, QUICK).read_bytes() == CONTENT
    assert server.asked == [("good", None)] and names(target.parent) == ["file.tar"]
    assert re.search(r"file\.tar: 100%.*50\.0k/50\.0k.*<.*B/s", capsys.readouterr().err)


@pytest.mark.parametrize("length", [8, 20])
def test_the_first_digits_of_a_checksum_do(server, target, length):
    """As torch hub puts them into file names, where no more is published."""
    digits = hashlib.sha256(CONTENT).hexdigest()
    checksum = "sha256-prefix:" + digits[:length]
    assert fetch(target, [server.at("lie"), server.at("page"), server.at()], checksum, QUICK).read_bytes() == CONTENT
    assert fetch(target, [], checksum, QUICK) == target and names(target.parent) == ["file.tar"]
    assert has_checksum(target, checksum) and not has_checksum(target, "sha256-prefix:" + digits[1 : length + 1])
    with pytest.raises(WeaksegError, match=r"file\.tar: its checksum is not sha256-prefix:0000"):
        fetch(target, [server.at()], "sha256-prefix:00000000", QUICK)
    target.unlink()
    with pytest.raises(WeaksegError, match=rf"hash of downloaded file .*expected sha256-prefix:0{{8}}, found {digits}"):
        fetch(target, [server.at()], "sha256-prefix:00000000", QUICK)
    assert names(target.parent) == []


def test_a_spoilt_partial_file_is_noticed_by_the_first_digits(server, target, partial):
    partial.write_bytes(b"x" * 1000)
    checksum = "sha256-prefix:" + hashlib.sha256(CONTENT).hexdigest()[:8]
    assert fetch(target, [server.at()], checksum, QUICK).read_bytes() == CONTENT


def test_a_checksum_that_nobody_knows(server, target):
    assert fetch(target, [server.at("page"), server.at("cut")], None, QUICK).read_bytes() == CONTENT
    assert has_checksum(target, None)


def test_two_cuts_need_one_call(server, target):
    assert fetch(target, [server.at("cut")], MD5, QUICK).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=20000-", "bytes=40000-"]
    assert names(target.parent) == ["file.tar"]


def test_a_server_that_knows_no_ranges(server, target):
    assert fetch(target, [server.at("norange/cut")], MD5, QUICK).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_attempts_count_anew_when_bytes_came(server, target):
    patience = QUICK._replace(attempts=2)  # three answers are needed, of which two break off
    assert fetch(target, [server.at("cuts")], MD5, patience).read_bytes() == CONTENT


def test_what_an_interrupted_transfer_left_is_continued_by_another_address(server, target):
    with pytest.raises(WeaksegError, match=r"cannot be fetched(.|\n)*20000 bytes read(.|\n)*partial is kept"):
        fetch(target, [server.at("norange/cuts")], MD5, QUICK)
    assert [name for name, _ in server.asked] == ["norange"] * 3
    assert target.with_name("file.tar.partial").read_bytes() == CONTENT[:20_000]
    fetch(target, [server.at()], MD5, QUICK)
    assert server.asked[-1] == ("good", "bytes=20000-") and target.read_bytes() == CONTENT


def test_a_stall_ends_in_time_and_is_continued(server, target):
    begun = time.monotonic()
    fetch(target, [server.at("stall")], MD5, QUICK)
    assert time.monotonic() - begun < 3
    assert [wanted for _, wanted in server.asked] == [None, "bytes=20000-"]


def test_a_busy_server_is_asked_again(server, target):
    fetch(target, [server.at("busy")], MD5, QUICK)
    assert len(server.asked) == 3


def test_a_lie_a_page_and_a_missing_file_are_passed_over_at_once(server, target):
    addresses = [server.at("lie"), server.at("page"), server.at("missing"), "http://127.0.0.1:9/file.tar", server.at()]
    fetch(target, addresses, MD5, QUICK)
    assert [name for name, _ in server.asked] == ["lie", "page", "missing", "good"]
    assert target.read_bytes() == CONTENT and names(target.parent) == ["file.tar"]


def test_the_failures_are_told_by_address(server, target):
    addresses = [server.at("lie"), server.at("page"), server.at("missing")]
    with pytest.raises(WeaksegError) as raised:
        fetch(target, addresses, MD5, QUICK)
    for address, reason in zip(addresses, ("hash of downloaded file", "web page", "404"), strict=True):
        assert re.search(rf"{address}: .*{reason}", str(raised.value))
    assert names(target.parent) == []


@pytest.mark.parametrize("way", ["page", "short", "norange/short", "missing"])
def test_a_wrong_answer_leaves_the_partial_file_alone(server, target, partial, way):
    partial.write_bytes(CONTENT[:30_000])
    if way != "short":  # a server that knows ranges says there is no more: the checksum decides on what is there
        with pytest.raises(WeaksegError, match="is kept"):
            fetch(target, [server.at(way)], MD5, QUICK)
        assert partial.read_bytes() == CONTENT[:30_000]
    assert fetch(target, [server.at(way), server.at()], MD5, QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("way", ["", "norange"])
def test_a_whole_partial_file_needs_only_its_checksum(server, target, partial, way):
    partial.write_bytes(CONTENT)
    assert fetch(target, [server.at(way)], MD5, QUICK).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("length", [1000, 60_000])
def test_a_spoilt_partial_file_is_fetched_anew(server, target, partial, length):
    partial.write_bytes(b"x" * length)
    assert fetch(target, [server.at()], MD5, QUICK).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [f"bytes={length}-", None]


def test_bytes_are_kept_as_they_are_sent(server, target):
    assert fetch(target, [server.at("gzip")], MD5, QUICK).read_bytes() == CONTENT


def test_a_length_that_is_not_told(server, target):
    assert fetch(target, [server.at("nolength")], MD5, QUICK).read_bytes() == CONTENT


def test_a_wrong_file_in_the_way_is_not_overwritten(server, target):
    target.parent.mkdir()
    target.write_bytes(b"something else")
    with pytest.raises(WeaksegError, match=r"file\.tar: its checksum is not md5:"):
        fetch(target, [server.at()], MD5, QUICK)
    assert target.read_bytes() == b"something else" and not server.asked


def test_room_is_asked_for_before_the_transfer(server, target, partial, monkeypatch):
    partial.write_bytes(CONTENT[:10_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(WeaksegError, match=r"downloads: .*0\.0 MB too few.*Make room") as raised:
        fetch(target, [server.at(), server.at("cut")], MD5, QUICK)
    assert "connection" not in str(raised.value) and len(server.asked) == 1  # it is not the address's fault
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=40_000))  # just what is lacking
    assert fetch(target, [server.at("norange")], MD5, QUICK).read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_fills_up(server, target, partial):
    partial.symlink_to("/dev/full")
    with pytest.raises(WeaksegError, match=r"downloads: .*No space left.*Make room there, or set WEAKSEG_CACHE"):
        fetch(target, [server.at("nolength"), server.at()], MD5, QUICK)
    assert len(server.asked) == 1


def test_of_two_at_the_same_time_one_fetches(server, target, capsys):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: fetch(target, [server.at("slow")], MD5, QUICK), range(2)))
    assert both == [target, target] and target.read_bytes() == CONTENT
    assert len(server.asked) == 1 and "another process is making it" in capsys.readouterr().err


def test_the_cache_is_that_of_the_system_unless_named(tmp_path, monkeypatch):
    monkeypatch.delenv("WEAKSEG_CACHE", raising=False)
    assert cache_folder() == Path(pooch.os_cache("weakseg"))
    monkeypatch.setenv("WEAKSEG_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.setenv("WEAKSEG_CACHE", "here")
    monkeypatch.chdir(tmp_path)
    assert cache_folder() == tmp_path / "here"  # a manifest that names it is read from other folders too
    assert cache_folder(tmp_path) == tmp_path
