"""The CRF's parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from weakseg.errors import WeaksegError

_LARGEST = 1e30
"""Up to here values, their reciprocals and the sums made of them are finite in float32, in which engines compute."""


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
        """Refuse widths and weights out of range.

        Raises:
            WeaksegError: a width outside 1e-30 to 1e30, or a weight outside 0 to 1e30; it names the field.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            lowest = 1 / _LARGEST if field.name.startswith("sigma") else 0
            if not lowest <= value <= _LARGEST:  # NaN is not, either
                raise WeaksegError(f"CRF: {field.name} must lie in {lowest:g} to {_LARGEST:g}, got {value}")
