"""The CRF's parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from weakseg.errors import WeaksegError


@dataclass(frozen=True, order=True)
class CRFParams:
    """Weights and widths of the two Gaussian kernels (Chen et al. 2015, equation 3).

    Attributes:
        w: weight of the bilateral kernel.
        sigma_xy: its width in position, pixels.
        sigma_rgb: its width in colour, of 0..255.
        w_pos: weight of the position kernel.
        sigma_pos: its width, pixels.
    """

    w: float
    sigma_xy: float
    sigma_rgb: float
    w_pos: float = 3.0
    sigma_pos: float = 3.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "CRFParams":
        """The parameters in a row of a search, or in what it chose; other keys are not looked at."""
        return cls(**{field.name: float(values[field.name]) for field in fields(cls)})

    def __post_init__(self) -> None:
        """Refuse widths that are not positive, weights that are negative, and values that are not finite."""
        for name, lowest_allowed in (
            ("sigma_xy", False),
            ("sigma_rgb", False),
            ("sigma_pos", False),
            ("w", True),
            ("w_pos", True),
        ):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and not lowest_allowed):
                raise WeaksegError(
                    f"CRF: {name} must be {'0 or more' if lowest_allowed else 'positive'} and finite, got {value}"
                )
