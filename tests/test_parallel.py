"""Several processes give what one gives, in order; what goes wrong for an image is said of it."""

import math
import os

import pytest

from weakseg import parallel
from weakseg.errors import WeaksegError
from weakseg.parallel import parallel_map

NUMBERS = list(range(0, 90, 7))


@pytest.fixture(params=["here", "by others"])
def mapped(request, monkeypatch):
    """`parallel_map` in this process, and by others although they save nothing."""
    if request.param == "by others":
        monkeypatch.setattr(parallel, "WORTH_PROCESSES_S", -1.0)
    return lambda function, items: parallel_map(function, items, processes=2, description="work")


def process_of(_number):
    return os.getpid()


def too_large(item):
    name = item[0] if isinstance(item, tuple) else item
    if name == "2007_000007":
        raise MemoryError("Unable to allocate 9 GiB")
    return name


def root_or_error(number):
    if number == 70:
        raise WeaksegError("photo 70: torn")
    return math.isqrt(number)


def test_results_come_in_order(mapped):
    assert list(mapped(math.isqrt, NUMBERS)) == [math.isqrt(number) for number in NUMBERS]
    assert list(mapped(math.isqrt, [])) == []


def test_errors_arrive_after_the_results_before_them(mapped):
    results = mapped(math.isqrt, [*NUMBERS, -1])
    with pytest.raises(ValueError, match="nonnegative"):
        for number in [*NUMBERS, -1]:
            assert next(results) == math.isqrt(number)
    with pytest.raises(WeaksegError, match=r"^photo 70: torn$"):
        list(mapped(root_or_error, NUMBERS))


@pytest.mark.parametrize(("place", "pair"), [(0, False), (7, True)])
def test_an_image_that_does_not_fit_in_memory_is_named(mapped, place, pair):
    ids = [f"2007_{(number + 7 - place) % 8:06d}" for number in range(8)]
    items = [(image_id, "boxes") for image_id in ids] if pair else ids
    with pytest.raises(WeaksegError, match=r"image 2007_000007: .*9 GiB.*run fewer processes"):
        list(mapped(too_large, items))


def test_other_processes_are_used_where_they_save_time(monkeypatch):
    alone = set(parallel_map(process_of, NUMBERS, processes=2, description="quick"))
    assert alone == {os.getpid()}
    monkeypatch.setattr(parallel, "WORTH_PROCESSES_S", -1.0)
    first, *rest = parallel_map(process_of, NUMBERS, processes=2, description="slow")
    # The first items are tried here.
    assert first == os.getpid() and rest[-1] != os.getpid() and len({*rest} - {os.getpid()}) <= 2


def test_progress_counts_every_item(mapped, capsys):
    list(mapped(math.isqrt, NUMBERS))
    shown = capsys.readouterr().err
    assert "work: 100%" in shown and f"{len(NUMBERS)}/{len(NUMBERS)}" in shown
