"""A GPU that computes nothing and refuses to be waited for, to see on any machine that a piece of code never waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from weakseg import devices

FAKE = torch.device("cuda", 0)


class Waits(AssertionError):
    """Something looked at a value that the GPU has yet to compute."""


class _OnFakeGpu(TorchDispatchMode):
    """Tensors on `FAKE` have a shape and no values; those on the CPU are as they always are."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        on_gpu = any(isinstance(one, FakeTensor) and one.device.type == "cuda" for one in tree_leaves((args, kwargs)))
        wanted = kwargs.get("device")
        if on_gpu and wanted is not None and torch.device(wanted).type == "cpu":
            raise Waits(f"{func} brings a tensor back")
        if not on_gpu and (wanted is None or torch.device(wanted).type != "cuda"):
            return func(*args, **kwargs)
        if any(isinstance(one, torch.Tensor) and one.dim() and one.device.type == "cpu" for one in tree_leaves(args)):
            assert "copy" in str(func), f"{func} mixes tensors of the CPU and the GPU"
        try:
            with self.fake:
                return func(*args, **kwargs)
        except RuntimeError as error:
            if type(error).__name__ in ("DataDependentOutputException", "DynamicOutputShapeException"):
                raise Waits(f"{func} looks at values") from error
            raise


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device of which every look at a value raises `Waits` within the block."""
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
        patched.setattr(torch.cuda, "_lazy_init", lambda: None)
        patched.setattr(devices, "choose_device", lambda: FAKE)
        with _OnFakeGpu():
            yield FAKE
