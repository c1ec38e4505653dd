"""Drawing E-step maps from a run's snapshots: what the method made of whole training images as the network learnt."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from weakseg.config import Experiment, Study
from weakseg.data.dataset import open_data
from weakseg.data.transforms import grid_of_image, scale_labels
from weakseg.devices import to_device
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_csv
from weakseg.labels import IGNORE
from weakseg.methods import Shown
from weakseg.model.label_views import seen_by
from weakseg.paths import StudyPaths
from weakseg.train.mstep import estep
from weakseg.train.setup import Setup, Teaching, prepare_run
from weakseg.train.snapshots import MOMENTS, load_snapshot


@torch.no_grad()
def write_estep_maps(
    study: Study,
    experiment: Experiment,
    seed: int,
    paths: StudyPaths,
    data_root: str | Path | None = None,
    config_dir: str | Path = "config",
    *,
    shown: Sequence[str],
    measured: Sequence[str],
) -> None:
    """Run the E-step without dropout on whole images, from each snapshot; write `estep_maps` and `estep_confusion`.

    Maps are named `moment/image`, (h, w) uint8 labels at the score cells. The CSV has a row a moment and true class:
    moment, iteration, images, truth, then cells by label. The E-step is that of the method itself: iterations that a
    study trains on fixed maps first do not count.

    Args:
        study, experiment, seed, paths, data_root, config_dir: the run, see `train_run`.
        shown: images whose maps are kept.
        measured: images whose labels are held against their pixel labels.

    Raises:
        WeaksegError: no method of the experiment has an E-step, or a snapshot or image is missing.
    """
    setup = prepare_run(study, experiment, seed, paths, data_root, config_dir)
    teaching = next((one for one in setup.teachings if one.method.estep), None)
    if teaching is None:
        raise WeaksegError(
            f"experiment {experiment.id}: none of its methods has an E-step, so there is nothing to draw"
        )
    data, num_labels = open_data(paths.manifest), len(setup.labels)
    own = set(teaching.ids)
    done_at = dict(zip(MOMENTS, (0, setup.solver.iterations // 2, setup.solver.iterations), strict=True))
    maps: dict[str, np.ndarray] = {}
    rows: list[dict[str, object]] = []
    for moment, done in done_at.items():
        setup.trained.load_state_dict(load_snapshot(setup.run, moment))
        setup.trained.eval()
        setup.generator.manual_seed(seed)
        confusion = np.zeros((num_labels, num_labels), dtype=np.int64)
        chosen = [image_id for image_id in dict.fromkeys([*shown, *measured]) if image_id in own]
        for image_id in tqdm(chosen, desc=f"E-step at the {moment}", unit="photo", mininterval=2):
            size = data.size(image_id)
            labels = _label_map(setup, teaching, image_id, size)
            if image_id in shown:
                maps[f"{moment}/{image_id}"] = labels
            if image_id in measured:
                scaled = scale_labels(data.pixel_labels(image_id), study.network.image_scale)
                truth = grid_of_image(scaled, study.network.output_stride)
                valid = (truth != IGNORE) & (labels != IGNORE)
                np.add.at(confusion, (truth[valid], labels[valid]), 1)
        facts = {"moment": moment, "iteration": done, "images": len(set(measured) & own)}
        for truth_name, cells in zip(setup.labels.names, confusion.tolist(), strict=True):
            rows.append({**facts, "truth": truth_name, **setup.labels.by_name(cells)})
    with atomic_path(setup.run.estep_maps) as temporary:
        save_file(maps, temporary)
    atomic_write_csv(setup.run.estep_confusion, rows)


def _label_map(setup: Setup, teaching: Teaching, image_id: str, size: tuple[int, int]) -> np.ndarray:
    """The E-step's labels of a whole image at its score cells, (h, w) uint8."""
    told = teaching.annotation.of_image(image_id, size)
    scores = seen_by(teaching.view, setup.trained(setup.inputs.whole(image_id).to(setup.device)))
    shown = Shown(
        present=None if told.present is None else to_device(told.present[None], setup.device),
        label_map=None if told.label_map is None else to_device(told.label_map[None].astype(np.int64), setup.device),
        inside=torch.ones((1, *scores.shape[2:]), dtype=torch.bool, device=setup.device),
        iteration=sys.maxsize,  # beyond any start on fixed maps, also one that is longer than the training
        generator=setup.generator,
    )
    return estep(teaching.method, scores, shown, teaching.constants)[0].cpu().numpy().astype(np.uint8)
