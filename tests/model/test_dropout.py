"""Dropout by random bytes."""

import numpy as np
import pytest
import torch

from weakseg.model.dropout import Dropout


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_of_the_elements_are_doubled_and_the_others_zero(layout, dtype):
    torch.manual_seed(0)
    values = torch.rand(3, 16, 31, 33).add(1).to(dtype).contiguous(memory_format=layout).requires_grad_()
    kept = Dropout(0.5)(values)
    assert kept.dtype == dtype and kept.is_contiguous(memory_format=layout)
    chosen = kept != 0
    torch.testing.assert_close(kept, torch.where(chosen, 2 * values, torch.zeros_like(values)), rtol=0, atol=0)
    assert chosen.float().mean() == pytest.approx(0.5, abs=0.01)
    (gradient,) = torch.autograd.grad(kept.sum(), values)
    torch.testing.assert_close(gradient, 2 * chosen.to(dtype), rtol=0, atol=0)
    # Neighbours in memory are chosen independently, also across the bytes of one random number.
    in_memory = (chosen.permute(0, 2, 3, 1) if layout == torch.channels_last else chosen).flatten().numpy()
    for lag in range(1, 17):
        assert abs(np.corrcoef(in_memory[lag:], in_memory[:-lag])[0, 1]) < 0.02


def test_a_seed_decides_and_calls_differ():
    values, dropout = torch.ones(1000), Dropout(0.5)
    torch.manual_seed(1)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(1)
    assert torch.equal(dropout(values), first) and not torch.equal(first, second)


def test_other_cases_are_torchs():
    values = torch.ones(1000)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    torch.manual_seed(2)
    ours = Dropout(0.3)(values)
    torch.manual_seed(2)
    assert torch.equal(ours, torch.nn.Dropout(0.3)(values))
    assert Dropout(0.5)(torch.ones(0)).shape == (0,)
