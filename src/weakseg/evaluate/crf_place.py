"""Where the CRF of a study runs: on the cores, or on the GPU."""

from typing import Any

import numpy as np

from weakseg.config import Study


def crf_device(study: Study) -> str | None:
    """The torch device of a study's CRF; None: the cores."""
    if study.compute.crf == "cores":
        return None
    from weakseg.devices import choose_device

    device = choose_device()
    if device.type == "cpu":
        print(
            "compute.crf is `device`, and there is no GPU: the CRF runs on the CPU, slower than it would with `cores`"
        )
    return str(device)


def placed(values: np.ndarray, device: str | None) -> Any:
    """A unary or an image as `weakseg.crf` takes it: on a device as a tensor, for the cores as it is."""
    if device is None:
        return values
    import torch  # takes a while, and the cores do without it

    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
