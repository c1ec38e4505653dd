"""Several processes give what one gives."""

import math

import pytest

from weakseg import parallel
from weakseg.parallel import parallel_map


def test_other_processes_give_the_same_in_the_same_order_and_their_errors_arrive(monkeypatch):
    numbers = list(range(0, 90, 7))
    alone = list(parallel_map(math.isqrt, numbers, processes=2, description="alone"))
    assert alone == [math.isqrt(n) for n in numbers]
    # Other processes although they save nothing.
    monkeypatch.setattr(parallel, "WORTH_PROCESSES_S", -1.0)
    results = parallel_map(math.isqrt, [*numbers, -1], processes=2, description="processes")
    assert [next(results) for _ in numbers] == alone
    with pytest.raises(ValueError, match="nonnegative"):
        next(results)
    assert list(parallel_map(math.isqrt, [], processes=2, description="none")) == []
