"""All photos of a run, decoded once and held in memory as uint8."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from weakseg.data.transforms import scaled_size
from weakseg.errors import WeaksegError
from weakseg.memory import free_memory
from weakseg.train.sources import Photos

MEMORY_SHARE = 0.8
"""Of what is free, photos may take so much."""


def scaled_photo(image: np.ndarray, scale: float) -> np.ndarray:
    """A photo (H, W, 3) uint8 at the scale at which the network sees it."""
    seen = scaled_size(image.shape, scale)
    if seen == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize(seen[::-1], Image.Resampling.BILINEAR))


class HeldPhotos:
    """Photos one after the other in one block of memory.

    Attributes:
        pixels: (pixels of all photos, 3) uint8 RGB.
        first: by image, which of them is its photo's first; row by row.
        sizes: by image, height and width of the photo in its own pixels.
    """

    def __init__(
        self,
        data: Photos,
        ids: Sequence[str],
        scale: float,
        device: torch.device,
        *,
        threads: int = 1,
        processes: int = 1,
    ) -> None:
        """Decode photos into a device's memory.

        Args:
            data: where they are.
            ids: which; one that is named twice is held once.
            scale: factor on their sides, see `scaled_photo`.
            device: whose memory.
            threads: that decode.
            processes: how many do the same on this machine.

        Raises:
            WeaksegError: they do not fit in what is free.
        """
        ids = list(dict.fromkeys(ids))
        self.scale = scale
        self.sizes = {image_id: data.size(image_id) for image_id in ids}
        areas = [height * width for height, width in (scaled_size(self.sizes[i], scale) for i in ids)]
        ends = np.cumsum(areas)
        self.first = dict(zip(ids, (ends - areas).tolist(), strict=True))
        needed = 3 * sum(areas)
        # The GPU is this process's own; the machine's memory all of them fill.
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory() / processes
        if needed > MEMORY_SHARE * free:
            raise WeaksegError(
                f"compute.photos: {len(ids)} decoded photos take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free "
                "for each process; set it to `files`"
            )
        self.pixels = torch.empty((sum(areas), 3), dtype=torch.uint8, device=device)
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            photos = pool.map(lambda image_id: scaled_photo(data.image(image_id), scale), ids)
            for image_id, photo in tqdm(
                zip(ids, photos, strict=True), desc="photos into memory", unit="photo", total=len(ids), mininterval=2
            ):
                begin = self.first[image_id]
                flat = torch.from_numpy(np.array(photo).reshape(-1, 3))
                self.pixels[begin : begin + len(flat)] = flat

    def photo(self, image_id: str) -> np.ndarray:
        """A photo at the network's scale, (h, w, 3) uint8, of photos in the machine's memory."""
        height, width = scaled_size(self.sizes[image_id], self.scale)
        begin = self.first[image_id]
        return self.pixels[begin : begin + height * width].view(height, width, 3).numpy()
