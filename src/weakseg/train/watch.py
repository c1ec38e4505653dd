"""Looking at a training with boxes: the E-step's labels of whole training images at its start, middle and end."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn
from tqdm import tqdm

from weakseg.annotations.boxes import read_boxes
from weakseg.annotations.choice import spread, telling_images
from weakseg.config import Experiment, Study
from weakseg.data.prepare import open_data
from weakseg.estep import bbox_em_fixed
from weakseg.files import atomic_path, atomic_write_csv, sha256_json
from weakseg.labels import CLASSES, IGNORE, NUM_LABELS, by_class
from weakseg.paths import RunPaths, StudyPaths
from weakseg.train.samples import SampleSource

MOMENTS = ("start", "middle", "end")
"""Before the first update, after half of the iterations, after the last."""


class EStepWatch:
    """Runs the E-step without dropout on whole images and keeps some maps and the confusion with the truth.

    What was seen lies with the resume states until the training ends, so that a killed one loses none. Nothing here
    draws a random number or changes a parameter: a training ends the same whether it is watched or not.
    """

    def __init__(
        self,
        run: RunPaths,
        key: str,
        estep: Callable[[Tensor, Tensor], Tensor],
        *,
        maps: SampleSource,
        truth: SampleSource,
        shown: Sequence[str],
        measured: Sequence[str],
        iterations: int,
    ) -> None:
        """Watch a run.

        Args:
            run: its files.
            key: hash of its configuration.
            estep: (scores (1, L+1, h, w), box_map (1, h, w)) -> label map (1, h, w).
            maps: gives whole images and the labels of their boxes.
            truth: gives their true labels.
            shown: images whose maps are kept.
            measured: images whose labels are held against the truth.
            iterations: length of the training.
        """
        self.run = run
        self.estep = estep
        self.maps = maps
        self.truth = truth
        self.shown = list(shown)
        self.measured = list(measured)
        self.done_at = dict(zip(MOMENTS, (0, iterations // 2, iterations), strict=True))
        # Which images are looked at does not decide the training, but what was seen of others is of no use.
        name = f"{key[:16]}-estep-{sha256_json([self.shown, self.measured])[:8]}"
        self._parts = {moment: run.resume / f"{name}-{moment}.npz" for moment in MOMENTS}

    def look(self, done: int, trained: nn.Module, device: torch.device) -> None:
        """Observe, if so many finished iterations are a moment that was not seen yet."""
        for moment, path in self._parts.items():
            if self.done_at[moment] == done and not path.exists():
                trained.eval()
                self._observe(moment, done, trained, device)
                trained.train()

    def _observe(self, moment: str, done: int, trained: nn.Module, device: torch.device) -> None:
        confusion = np.zeros((NUM_LABELS, NUM_LABELS), dtype=np.int64)
        kept: dict[str, np.ndarray] = {}
        chosen = list(dict.fromkeys([*self.shown, *self.measured]))
        for image_id in tqdm(chosen, desc=f"E-step at the {moment}", unit="photo", mininterval=2):
            labels = self._labels(image_id, trained, device)
            if image_id in self.shown:
                kept[f"map/{image_id}"] = labels
            if image_id in self.measured:
                truth = self.truth.whole_labels(image_id)
                valid = truth != IGNORE
                np.add.at(confusion, (truth[valid], labels[valid]), 1)
        with atomic_path(self._parts[moment]) as temporary:
            np.savez(temporary, allow_pickle=False, confusion=confusion, done=np.array(done), **kept)

    @torch.no_grad()
    def _labels(self, image_id: str, trained: nn.Module, device: torch.device) -> np.ndarray:
        box_map = torch.from_numpy(self.maps.whole_labels(image_id).astype(np.int64))[None].to(device)
        scores = trained(self.maps.whole_inputs(image_id).to(device))
        return self.estep(scores, box_map)[0].cpu().numpy().astype(np.uint8)

    def write(self) -> None:
        """Write the run's `estep_maps` and `estep_confusion`.

        A moment is left out that had passed when a resumed training was first told to look at these images.

        Maps are named `moment/image`, (h, w) uint8 labels at the score cells. The CSV has a row a moment and true
        class: moment, iteration, images, truth, then cells by label.
        """
        maps: dict[str, np.ndarray] = {}
        rows: list[dict[str, object]] = []
        for moment, path in self._parts.items():
            if not path.exists():
                continue
            with np.load(path) as part:
                maps |= {f"{moment}/{i}": part[f"map/{i}"] for i in self.shown}
                facts = {"moment": moment, "iteration": int(part["done"]), "images": len(self.measured)}
                for truth, cells in zip(CLASSES, part["confusion"].tolist(), strict=True):
                    rows.append({**facts, "truth": truth, **by_class(cells)})
        with atomic_path(self.run.estep_maps) as temporary:
            save_file(maps, temporary)
        atomic_write_csv(self.run.estep_confusion, rows)

    def discard(self) -> None:
        """Remove what was kept for a kill."""
        for path in self._parts.values():
            path.unlink(missing_ok=True)


def make_watch(
    study: Study,
    experiment: Experiment,
    paths: StudyPaths,
    seed: int,
    key: str,
    *,
    weak: Sequence[str],
    maps: SampleSource,
    truth: SampleSource,
) -> EStepWatch | None:
    """What looks at the E-step of a training with Bbox-EM-Fixed on boxes alone; None for all others.

    Args:
        study, experiment, paths, seed: the run.
        key: hash of its configuration.
        weak: its weak images, of which `boxes.quality_images` are measured.
        maps, truth: as in `EStepWatch`.
    """
    if not experiment.watched or study.boxes is None:
        return None
    biases = {"bg_bias": study.estep.box_bg_bias, "fg_bias": study.estep.box_fg_bias}
    return EStepWatch(
        paths.run(experiment.id, seed),
        key,
        lambda scores, box_map: bbox_em_fixed(scores, box_map, **biases),
        maps=maps,
        truth=truth,
        shown=telling_images(read_boxes(paths.boxes), open_data(paths.manifest).ids("train"), study.report.box_images),
        measured=spread(weak, study.boxes.quality_images),
        iterations=study.solver_of(experiment).iterations,
    )
