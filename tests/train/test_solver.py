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


def test_groups_are_updated_at_once_to_the_bit_of_one_parameter_after_the_other():
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3, 3, 3), (7,), (2, 5, 1, 1), (1,), (33, 17)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    fused, plain = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    optimiser = CaffeSGD([(fused[:2], 1.0, 5e-4), (fused[2:4], 20.0, 0.0), (fused[4:], 10.0, 5e-4)], momentum=0.9)
    facts = [(1.0, 5e-4)] * 2 + [(20.0, 0.0)] * 2 + [(10.0, 5e-4)]
    velocities = [torch.zeros(s) for s in shapes]
    for step, lr in enumerate((0.1, 0.1, 0.003)):
        for n, (one, other) in enumerate(zip(fused, plain, strict=True)):
            gradient = torch.randn(shapes[n], generator=generator)
            one.grad = other.grad = None if n == 3 and step == 1 else gradient  # one without a gradient stays
        optimiser.step(lr)
        with torch.no_grad():
            for parameter, velocity, (multiplier, decay) in zip(plain, velocities, facts, strict=True):
                if parameter.grad is not None:
                    velocity.mul_(0.9).add_(parameter.grad, alpha=lr * multiplier)
                    velocity.add_(parameter, alpha=lr * multiplier * decay)
                    parameter.sub_(velocity)
        assert all(torch.equal(one, other) for one, other in zip(fused, plain, strict=True))


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
