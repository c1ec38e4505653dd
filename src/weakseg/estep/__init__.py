"""E-steps: scores and annotation in, label map out; pure functions on tensors."""

from weakseg.estep.adapt import em_adapt
from weakseg.estep.boxes import bbox_em_fixed
from weakseg.estep.fixed import em_fixed

__all__ = ["bbox_em_fixed", "em_adapt", "em_fixed"]
