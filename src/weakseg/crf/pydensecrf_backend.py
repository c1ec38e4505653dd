"""The backend of the reference implementation, through the Python binding pydensecrf."""

import numpy as np

from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError


def mean_field_pydensecrf(
    unary: np.ndarray,
    image: np.ndarray,
    params: CRFParams,
    *,
    iterations: int,
    normalization: str,
    compatibility: np.ndarray | None = None,
) -> np.ndarray:
    """Q by pydensecrf; arguments as in `weakseg.crf.mean_field`.

    The normalisation is passed on purpose: the binding's default is the symmetric one, DeepLab's divides after
    filtering.

    Raises:
        WeaksegError: pydensecrf is not installed.
    """
    try:
        import pydensecrf.densecrf as binding
    except ImportError as error:
        raise WeaksegError(
            "CRF: backend pydensecrf needs the package pydensecrf2, an optional extra: `pip install pydensecrf2==1.1`"
        ) from error
    labels, height, width = unary.shape
    mode = binding.NORMALIZE_AFTER if normalization == "after" else binding.NORMALIZE_SYMMETRIC
    crf = binding.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    if params.w_pos > 0:
        crf.addPairwiseGaussian(sxy=params.sigma_pos, compat=_compat(params.w_pos, compatibility), normalization=mode)
    if params.w > 0:
        crf.addPairwiseBilateral(
            sxy=params.sigma_xy,
            srgb=params.sigma_rgb,
            rgbim=np.array(image, order="C"),
            compat=_compat(params.w, compatibility),
            normalization=mode,
        )
    return np.array(crf.inference(iterations), dtype=np.float32).reshape(labels, height, width)


def _compat(weight: float, compatibility: np.ndarray | None) -> float | np.ndarray:
    """The binding's number for a Potts model, or its matrix."""
    return weight if compatibility is None else (weight * compatibility).astype(np.float32)
