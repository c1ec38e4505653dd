"""E-steps: scores and annotation in, label map out; pure functions on tensors."""

from weakseg.estep.adapt import em_adapt
from weakseg.estep.fixed import em_fixed

__all__ = ["em_adapt", "em_fixed"]
