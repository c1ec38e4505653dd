"""The backend of the reference implementation, through the Python binding pydensecrf."""

import numpy as np

from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError


def mean_field_densecrf(
    unary: np.ndarray, image: np.ndarray, params: CRFParams, *, iterations: int, normalization: str
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
        crf.addPairwiseGaussian(sxy=params.sigma_pos, compat=params.w_pos, normalization=mode)
    if params.w > 0:
        crf.addPairwiseBilateral(
            sxy=params.sigma_xy,
            srgb=params.sigma_rgb,
            rgbim=np.array(image, order="C"),
            compat=params.w,
            normalization=mode,
        )
    return np.array(crf.inference(iterations), dtype=np.float32).reshape(labels, height, width)
