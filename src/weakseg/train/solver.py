"""The solver of the DeepLab v1 release: Caffe's SGD, its learning-rate multipliers and its schedules."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from weakseg.config import Solver
from weakseg.errors import WeaksegError


class CaffeSGD:
    """SGD with momentum where the rate sits inside the velocity: v <- m v + lr (g + decay w); w <- w - v.

    After a drop of the rate the old velocity goes on at its old size, unlike in torch.optim.SGD.
    """

    def __init__(self, groups: Iterable[tuple[list[nn.Parameter], float, float]], momentum: float) -> None:
        """Take `groups` of (parameters, rate multiplier, weight decay); a group without parameters is left out."""
        self.groups = [(list(p), multiplier, decay) for p, multiplier, decay in groups if len(p)]
        self.momentum = momentum
        self.velocity = [[torch.zeros_like(p) for p in parameters] for parameters, _, _ in self.groups]
        seen = [p for parameters, _, _ in self.groups for p in parameters]
        if len({id(p) for p in seen}) != len(seen):
            raise WeaksegError("solver: a parameter stands in two groups")

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update at base rate `lr` from the gradients in the parameters; those without one stay."""
        for (parameters, multiplier, decay), velocities in zip(self.groups, self.velocity, strict=True):
            learning = [(p, p.grad, v) for p, v in zip(parameters, velocities, strict=True) if p.grad is not None]
            if not learning:
                continue
            own, gradients, steps = (list(column) for column in zip(*learning, strict=True))
            # A whole group at a time: a few kernels on a GPU, not three a parameter; the same bits on a CPU.
            torch._foreach_mul_(steps, self.momentum)
            torch._foreach_add_(steps, gradients, alpha=lr * multiplier)
            if decay:
                torch._foreach_add_(steps, own, alpha=lr * multiplier * decay)
            torch._foreach_sub_(own, steps)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameters, _, _ in self.groups:
            for parameter in parameters:
                parameter.grad = None

    def state(self) -> list[list[Tensor]]:
        """The velocities, group by group."""
        return self.velocity

    def load_state(self, state: list[list[Tensor]]) -> None:
        """Restore velocities that `state` gave."""
        for own, saved in zip(self.velocity, state, strict=True):
            for velocity, value in zip(own, saved, strict=True):
                velocity.copy_(value)


def parameter_groups(
    learnt: list[tuple[str, nn.Parameter]],
    fresh_fc: list[tuple[str, nn.Parameter]],
    classifier: list[tuple[str, nn.Parameter]],
    solver: Solver,
) -> list[tuple[list[nn.Parameter], float, float]]:
    """Rate multipliers and decays by role: biases run at their multiple of the weights' rate and do not decay.

    Multipliers in the release: weights 1, biases 2, fc8 weights 10, fc8 biases 20.

    Args:
        learnt: named parameters of the trunk, and of fc6 and fc7 where they came from a weights file.
        fresh_fc: those of fc6 and fc7 that start fresh.
        classifier: those of fc8 and the skip classifier.
        solver: the multipliers.

    Returns:
        (parameters, multiplier of the rate, weight decay), weights and biases of each role in turn.
    """
    groups = []
    for named, multiplier in (
        (learnt, 1.0),
        (fresh_fc, solver.head_lr_multiplier),
        (classifier, solver.fc8_lr_multiplier),
    ):
        weights = [p for name, p in named if not name.endswith("bias") and p.requires_grad]
        biases = [p for name, p in named if name.endswith("bias") and p.requires_grad]
        groups.append((weights, multiplier, solver.weight_decay))
        groups.append((biases, multiplier * solver.bias_lr_multiplier, 0.0))
    return groups


def learning_rate(solver: Solver, iteration: int) -> float:
    """Base rate of iteration 0, 1, ...: `step` drops it every so many iterations, `poly` lets it run to 0."""
    if solver.schedule == "step":
        return solver.lr * solver.step_factor ** (iteration // solver.step_iterations)
    return solver.lr * (1 - iteration / solver.iterations) ** solver.poly_power
