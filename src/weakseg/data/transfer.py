"""Fetching a file by its addresses and checksum into a cache, going on with an interrupted transfer."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
import urllib3
from filelock import FileLock, Timeout
from pooch.hashes import hash_matches
from tqdm import tqdm

import weakseg
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file

USER_AGENT = f"weakseg/{weakseg.__version__}"
"""What a server is told: some refuse the default names of Python's libraries."""


class Patience(NamedTuple):
    """How long an address is given."""

    attempts: int = 4
    """Failures in a row, without a byte gained, after which the next address is tried."""
    wait_s: float = 1.0
    """Seconds before the second attempt; they double with every further one."""
    timeout_s: tuple[float, float] = (10.0, 60.0)
    """Seconds without a connection, and without a byte, after which an attempt has failed."""


PATIENCE = Patience()

WEB_PAGE = "answers with a web page in place of the file"
"""What is wrong with an address that gives one."""

_NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)


class _AddressError(Exception):
    """An answer that will be the same next time: no such file, refused, a web page."""


def cache_folder(cache: str | Path | None = None) -> Path:
    """The folder of what is fetched, for all studies: `cache`, else WEAKSEG_CACHE, else the system's for weakseg."""
    return Path(cache or os.environ.get("WEAKSEG_CACHE") or pooch.os_cache("weakseg")).expanduser().absolute()


def has_checksum(path: str | Path, checksum: str | None) -> bool:
    """Whether a file has a checksum: `md5:` or `sha256:` and the digits, or `sha256-prefix:` and the first of them.

    None is the checksum that nobody knows: every file has it.
    """
    kind, _, digits = (checksum or "").partition(":")
    return sha256_file(path).startswith(digits) if kind == "sha256-prefix" else hash_matches(path, checksum)


def fetch(target: str | Path, addresses: Sequence[str], checksum: str | None, patience: Patience = PATIENCE) -> Path:
    """The file `target` with the right checksum, fetched if it is not there.

    The addresses are tried in their order, each again with growing waits as long as it may help. What an interrupted
    transfer left (`{name}.partial` beside `target`) is continued, by whichever address. Of several processes that want
    the same file one fetches it, and the others wait.

    Args:
        target: where the file lies or shall lie.
        addresses: http or https.
        checksum: see `has_checksum`.
        patience: how long each address is given.

    Raises:
        WeaksegError: a file with another checksum is in the way, no address gives the right one, or the disk is full or
            cannot be written to; the message says what to do.
    """
    target = Path(target)
    if not target.exists():
        with cache_writing(target.parent), locked(target):
            if not target.exists():
                _fetch(target, addresses, checksum, patience)
                return target
    if not has_checksum(target, checksum):
        raise WeaksegError(f"{target}: its checksum is not {checksum}; delete the file and run again")
    return target


def answers(address: str, timeout_s: tuple[float, float] = (5.0, 10.0)) -> str | None:
    """What is wrong with an address, or None if it has a file to give; nothing is fetched (a HEAD request)."""
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    try:
        answer = requests.head(address, headers=headers, timeout=timeout_s, allow_redirects=True)
    except requests.RequestException as error:
        return f"no answer ({type(error).__name__})"
    if answer.status_code >= 400:
        return f"{answer.status_code} {answer.reason}"
    return WEB_PAGE if _is_web_page(answer) else None


def _is_web_page(answer: requests.Response) -> bool:
    """Whether a server answers with a page (of a captive portal, say), which no file that is fetched here is."""
    return answer.headers.get("Content-Type", "").startswith("text/html")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from making `target` meanwhile; the system frees the lock of a process that dies."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{target}: another process is making it; waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def cache_writing(folder: Path) -> Iterator[None]:
    """Make `folder`, and turn errors of the file system (a full disk, no right to write) into a WeaksegError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise WeaksegError(
            f"{folder}: cannot be used as the cache: {error}. Make room there, or set WEAKSEG_CACHE to a folder on "
            "another disk, and run again; what has come is kept"
        ) from error


def _fetch(target: Path, addresses: Sequence[str], checksum: str | None, patience: Patience) -> None:
    partial = target.with_name(target.name + ".partial")
    failures = []
    for address in addresses:
        try:
            _fetch_from(address, target, partial, checksum, patience)
            return
        except (_AddressError, *_NETWORK_ERRORS, ValueError) as error:
            failures.append(f"{address}: {error}")
    kept = f"{partial} is kept and will be continued; delete it to begin anew. " if partial.exists() else ""
    raise WeaksegError(
        f"{target}: cannot be fetched.\n  " + "\n  ".join(failures) + f"\n{kept}Without a connection, fetch the file "
        f"elsewhere (from one of these addresses), put it at {target} and run again"
    )


def _fetch_from(address: str, target: Path, partial: Path, checksum: str | None, patience: Patience) -> None:
    first_digits = checksum is not None and checksum.startswith("sha256-prefix:")  # which pooch does not know

    def downloader(url: str, output_file: str, _: pooch.Pooch | None) -> None:
        _continue(url, partial, patience.timeout_s)
        if first_digits and not has_checksum(partial, checksum):
            found = sha256_file(partial)
            partial.unlink()
            raise ValueError(f"SHA256 hash of downloaded file does not match: expected {checksum}, found {found}")
        os.replace(partial, output_file)  # pooch checks it there and gives it its name, or removes it

    may_be_spoilt = partial.exists()  # by another address, say
    failed = 0
    while True:
        begun = _size(partial)
        try:
            known_hash = None if first_digits else checksum
            pooch.retrieve(address, known_hash, fname=target.name, path=target.parent, downloader=downloader)
            return
        except _NETWORK_ERRORS as error:
            failed = 1 if _size(partial) > begun else failed + 1
            if failed >= patience.attempts:
                raise
            seconds = patience.wait_s * 2 ** (failed - 1)
            print(f"{address}: {error}; again in {seconds:g} s", file=sys.stderr)
            time.sleep(seconds)
        except ValueError:  # another checksum
            if not may_be_spoilt:
                raise
            may_be_spoilt = False


def _continue(address: str, partial: Path, timeout_s: tuple[float, float]) -> None:
    """Append to `partial` what it lacks; nothing that is there is lost, whatever the server answers."""
    begun = _size(partial)
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    with requests.get(address, headers=headers, stream=True, timeout=timeout_s) as answer:
        if answer.status_code == 416 and begun:  # nothing beyond what is there: the checksum will tell
            return
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
            raise _AddressError(f"{answer.status_code} {answer.reason}")
        answer.raise_for_status()
        if _is_web_page(answer):
            raise _AddressError(WEB_PAGE)
        skip = 0 if answer.status_code == 206 else begun  # a server without ranges begins anew
        coming = int(answer.headers.get("Content-Length", 0))
        if coming and coming < skip:
            raise _AddressError(f"has a file of {coming} bytes, shorter than the {begun} that are there already")
        _require_space(partial.parent, coming - skip)
        with (
            open(partial, "ab") as out,
            tqdm(
                desc=partial.stem,
                initial=begun - skip,
                total=begun - skip + coming if coming else None,
                unit="B",
                unit_scale=True,
                mininterval=2,
            ) as bar,
        ):
            # read1: what has come before a stall is written. Not decoded: some servers call a .tgz a compressed .tar.
            while block := answer.raw.read1(1 << 20, decode_content=False):
                out.write(block[skip:])
                skip = max(0, skip - len(block))
                bar.update(len(block))


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{needed / 1e6:,.1f} MB to come and {free / 1e6:,.1f} free, {(needed - free) / 1e6:,.1f} MB too few"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
