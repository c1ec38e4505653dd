"""Pre-training a trunk on generated single-object images: the demo study's stand-in for ImageNet."""

import json
import time

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from weakseg.config import Study
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_csv
from weakseg.model import build_model, preprocess
from weakseg.paths import StudyPaths
from weakseg.scenes.write import read_pretraining

HELD_OUT_SHARE = 0.1
"""Share of the images on which the accuracy is measured."""


def pretrain_trunk(study: Study, paths: StudyPaths, *, epochs: int = 15, batch: int = 32, lr: float = 2e-3) -> None:
    """Train the study's trunk to name the object of single-object images; write its weights to `paths.pretrained`.

    Classification of the last map, pooled half by its mean and half by its maximum, by AdamW with a rate that rises
    and falls in one cycle; images are shifted, mirrored and changed in brightness. As in the paper, the network that
    goes into the study has seen classes of objects, but no masks. The held-out accuracy goes into the file's metadata,
    losses by epoch into pretrain_log.csv beside it. Deterministic on a CPU with one number of threads.

    Args:
        study: names its weights below `{results}`.
        paths: the study's result files.
        epochs: passes over the images.
        batch: images a step; all of them where there are fewer.
        lr: highest rate.

    Raises:
        WeaksegError: weights that the study does not make itself, no pre-training images, or a loss that is not finite.
    """
    weights = study.network.weights
    if weights is None or "{results}" not in weights.path:
        raise WeaksegError(
            f"study {study.name}: network.weights.path is not below {{results}}, so there is nothing to pre-train"
        )
    label_set = study.dataset.label_set()
    images, labels = read_pretraining(paths.images, label_set)
    inputs = torch.stack([preprocess(image, weights.preprocessing) for image in images])
    targets = torch.from_numpy(labels.astype(np.int64))
    torch.manual_seed(0)
    order = torch.randperm(len(inputs))
    held_out = int(len(inputs) * HELD_OUT_SHARE)
    test, train = order[:held_out], order[held_out:]
    batch = min(batch, len(train))

    trunk = build_model(study.network).trunk
    classifier = nn.Linear(trunk.out_channels, len(label_set))
    nn.init.zeros_(classifier.bias)
    parameters = [*trunk.parameters(), *classifier.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    steps = epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.15)

    def logits(x: Tensor) -> Tensor:
        maps = trunk(x.contiguous(memory_format=torch.channels_last))
        # The maximum lets a small telling part speak, the mean keeps the whole object in the features.
        return classifier(0.5 * maps.mean((2, 3)) + 0.5 * maps.amax((2, 3)))

    trunk.train()
    rows: list[dict[str, float]] = []
    started = time.monotonic()
    bar = tqdm(total=steps, desc="pre-training", unit="it", mininterval=2)
    for epoch in range(epochs):
        shuffled = train[torch.randperm(len(train))]
        losses = []
        for start in range(0, len(shuffled) - batch + 1, batch):
            chosen = shuffled[start : start + batch]
            loss = functional.cross_entropy(logits(_augment(inputs[chosen])), targets[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
        if not np.isfinite(losses).all():
            raise WeaksegError(
                f"study {study.name}: the loss of the pre-training is not finite in epoch {epoch + 1}; no weights are "
                "written"
            )
        rate = float(schedule.get_last_lr()[0])
        seconds = round(time.monotonic() - started, 1)
        rows.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "lr": rate, "seconds": seconds})
    bar.close()
    trunk.eval()
    with torch.no_grad():
        hits = [(logits(inputs[part]).argmax(1) == targets[part]).float() for part in test.split(256)]
    accuracy = float(torch.cat(hits).mean()) if held_out else None
    shown = "no image held out" if accuracy is None else f"held-out accuracy {100 * accuracy:.1f} %"
    print(f"pre-training: {len(train)} images, {shown}")
    atomic_write_csv(paths.pretrained.with_name("pretrain_log.csv"), rows)
    facts = {
        "accuracy": accuracy,
        "images": len(train),
        "preprocessing": weights.preprocessing.model_dump(mode="json"),
    }
    with atomic_path(paths.pretrained) as temporary:
        state = {key: value.contiguous() for key, value in trunk.state_dict().items()}
        save_file(state, temporary, metadata={"weakseg": json.dumps(facts)})


def _augment(x: Tensor) -> Tensor:
    """Mirror, shift by up to an eighth of the side, scale and shift the brightness; each image on its own."""
    n, _, side, _ = x.shape
    mirrored = torch.where(torch.rand(n, 1, 1, 1) < 0.5, x.flip(3), x)
    reach = side // 8
    padded = functional.pad(mirrored, (reach,) * 4, mode="reflect")
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, n)).tolist()
    corners = enumerate(zip(tops, lefts, strict=True))
    shifted = torch.stack([padded[i, :, top : top + side, left : left + side] for i, (top, left) in corners])
    return shifted * (0.8 + 0.4 * torch.rand(n, 1, 1, 1)) + 0.3 * torch.randn(n, 1, 1, 1)
