"""Image-level labels: which labels occur in a training image."""

from pathlib import Path

import numpy as np
import pandas as pd

from weakseg.data.prepare import open_data
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.labels import CLASSES


def write_image_labels(manifest_path: str | Path, out_csv: str | Path) -> None:
    """Write a row an image of `train_aug`: its id, then 0 or 1 for each label, background first.

    The labels are those of the pixel annotation, void left out (Papandreou et al. 2015, section 4.1: weak annotations
    are made from the pixel-level ones).
    """
    present = open_data(manifest_path).check(["train_aug"])
    frame = pd.DataFrame(np.stack(list(present.values())).astype(int), columns=list(CLASSES))
    frame.insert(0, "image", list(present))
    with atomic_path(out_csv) as temporary:
        frame.to_csv(temporary, index=False)


def read_image_labels(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Ids and (n, L+1) bool labels from `image_labels.csv`.

    Raises:
        WeaksegError: missing file or columns, no images, one twice, or values other than 0 and 1.
    """
    try:
        frame = pd.read_csv(path, dtype={"image": str}, na_filter=False)  # an image may be called NA
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg annotate` first") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise WeaksegError(f"{path}: not a table ({error}); run `weakseg annotate` again") from error
    if list(frame.columns) != ["image", *CLASSES]:
        raise WeaksegError(
            f"{path}: its columns must be image and the 21 labels in order; run `weakseg annotate` again"
        )
    values = frame[list(CLASSES)].to_numpy()
    if not np.isin(values, (0, 1)).all():
        raise WeaksegError(f"{path}: labels must be 0 or 1; run `weakseg annotate` again")
    if frame.empty:
        raise WeaksegError(f"{path}: no images in it; run `weakseg annotate` again")
    if (doubled := frame["image"][frame["image"].duplicated()]).size:
        raise WeaksegError(f"{path}: image {doubled.iloc[0]} stands in it twice; run `weakseg annotate` again")
    return frame["image"].tolist(), values.astype(bool)
