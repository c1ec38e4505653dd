"""The solver against its formula written out, and against torch where the two agree."""

import itertools

import pytest
import torch

from weakseg.config import Solver
from weakseg.errors import WeaksegError
from weakseg.train.solver import CaffeSGD, learning_rate, parameter_groups


def test_update_is_caffes_formula_with_changing_rates():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimiser = CaffeSGD([([parameter], 10.0, 0.1)], momentum=0.9)
    weight, velocity = parameter.detach().clone(), torch.zeros(2)
    for step, lr in enumerate((0.1, 0.1, 0.01, 0.001)):
        gradient = torch.tensor([0.5, -1.0]) * (step + 1)
        parameter.grad = gradient.clone()
        optimiser.step(lr)
        velocity = 0.9 * velocity + 10 * lr * (gradient + 0.1 * weight)
        weight = weight - velocity
        assert torch.allclose(parameter, weight, atol=1e-6)


def test_equals_torch_at_a_constant_rate_and_differs_after_a_drop():
    def run(drop):
        own, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        caffe = CaffeSGD([([own], 1.0, 0.01)], momentum=0.9)
        reference = torch.optim.SGD([other], lr=0.1, momentum=0.9, weight_decay=0.01)
        for step in range(6):
            lr = 0.1 if step < 3 or not drop else 0.01
            for parameter in (own, other):
                parameter.grad = 2 * parameter.detach()
            reference.param_groups[0]["lr"] = lr
            caffe.step(lr)
            reference.step()
        return own, other

    assert torch.allclose(*run(drop=False), atol=1e-6)
    assert not torch.allclose(*run(drop=True), atol=1e-3)


def test_groups_carry_the_release_s_multipliers():
    trunk = [("conv.weight", torch.nn.Parameter(torch.ones(1))), ("conv.bias", torch.nn.Parameter(torch.ones(1)))]
    fc8 = [("fc8.weight", torch.nn.Parameter(torch.ones(1))), ("fc8.bias", torch.nn.Parameter(torch.ones(1)))]
    groups = [(m, d) for p, m, d in parameter_groups(trunk, [], fc8, Solver()) if p]
    assert groups == [(1.0, 0.0005), (2.0, 0.0), (10.0, 0.0005), (20.0, 0.0)]


def test_a_parameter_in_two_groups_is_refused():
    parameter = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(WeaksegError, match="two groups"):
        CaffeSGD([([parameter], 1.0, 0.0), ([parameter], 2.0, 0.0)], momentum=0.9)


def test_step_schedule_is_the_paper_s_and_poly_runs_to_zero():
    step = Solver()
    assert [learning_rate(step, i) for i in (0, 1999)] == [0.001, 0.001]
    assert learning_rate(step, 2000) == pytest.approx(1e-4) and learning_rate(step, 5999) == pytest.approx(1e-5)
    poly = Solver(schedule="poly", iterations=100)
    rates = [learning_rate(poly, i) for i in range(101)]
    assert rates[0] == 0.001 and rates[-1] == 0 and all(a > b for a, b in itertools.pairwise(rates))
