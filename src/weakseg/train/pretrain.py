"""Pre-training a trunk on generated single-object images: the demo study's stand-in for ImageNet."""

import json

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from weakseg.config import Preprocessing, Study
from weakseg.data.prepare import read_manifest
from weakseg.data.scenes import read_pretraining
from weakseg.files import atomic_path
from weakseg.labels import NUM_LABELS
from weakseg.model import build_model, preprocess
from weakseg.paths import StudyPaths

HELD_OUT_SHARE = 0.1
"""Share of the images on which the accuracy is measured."""


def pretrain_trunk(study: Study, paths: StudyPaths, *, epochs: int = 15, batch: int = 32, lr: float = 2e-3) -> None:
    """Train the study's trunk to name the object of single-object images; write its weights to `paths.pretrained`.

    Classification of the last map, pooled half by its mean and half by its maximum, by AdamW with a rate that rises and
    falls in one cycle; images are shifted, mirrored and changed in brightness. As in the paper, the network that goes into the study has seen classes of objects, but no masks. The
    held-out accuracy goes into the file's metadata. Deterministic on a CPU with one number of threads.

    Raises:
        WeaksegError: no data, or no pre-training images.
    """
    read_manifest(paths.manifest)
    images, labels = read_pretraining(paths.root / "data")
    preprocessing = study.network.weights.preprocessing if study.network.weights else Preprocessing()
    inputs = torch.stack([preprocess(image, preprocessing) for image in images])
    targets = torch.from_numpy(labels.astype(np.int64))
    torch.manual_seed(0)
    order = torch.randperm(len(inputs))
    held_out = int(len(inputs) * HELD_OUT_SHARE)
    test, train = order[:held_out], order[held_out:]

    trunk = build_model(study.network).trunk
    classifier = nn.Linear(trunk.out_channels, NUM_LABELS)
    nn.init.zeros_(classifier.bias)
    parameters = [*trunk.parameters(), *classifier.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    batch = min(batch, len(train))
    steps = epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)

    def logits(x: Tensor) -> Tensor:
        maps = trunk(x.contiguous(memory_format=torch.channels_last))
        # The maximum lets a small telling part speak, the mean keeps the whole object in the features.
        return classifier(0.5 * maps.mean((2, 3)) + 0.5 * maps.amax((2, 3)))

    trunk.train()
    bar = tqdm(total=steps, desc="pre-training", unit="it", mininterval=2)
    for _ in range(epochs):
        shuffled = train[torch.randperm(len(train))]
        for start in range(0, len(shuffled) - batch + 1, batch):
            chosen = shuffled[start : start + batch]
            loss = functional.cross_entropy(logits(_augment(inputs[chosen])), targets[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
    bar.close()
    trunk.eval()
    with torch.no_grad():
        hits = [(logits(inputs[part]).argmax(1) == targets[part]).float() for part in test.split(256)]
    accuracy = float(torch.cat(hits).mean()) if len(test) else float("nan")
    print(f"pre-training: {len(train)} images, held-out accuracy {100 * accuracy:.1f} %")
    facts = {"accuracy": accuracy, "images": len(train), "preprocessing": preprocessing.model_dump(mode="json")}
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
    shifted = torch.stack(
        [padded[i, :, t : t + side, u : u + side] for i, (t, u) in enumerate(zip(tops, lefts, strict=True))]
    )
    return shifted * (0.8 + 0.4 * torch.rand(n, 1, 1, 1)) + 0.3 * torch.randn(n, 1, 1, 1)
