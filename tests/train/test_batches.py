"""Mini-batches: how many images each stream gives, and that they are a function of seed and iteration alone."""

import numpy as np
import pytest
import torch
from fabricate import make_study
from PIL import Image

from train.runs import RECT, SEMI, WEAK_IDS, network, ready, same, trained
from weakseg.config import Experiment, Stream
from weakseg.data.images import write_index_png
from weakseg.data.transforms import pad_crop
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.train.setup import images_of_batch, prepare_run, stream_names


def experiment(*shares, strong=1) -> Experiment:
    streams = []
    for number, share in enumerate(shares):
        kind = {"annotation": "strong", "method": "pixel_labels"}
        streams.append({**(kind if number < strong else {"annotation": "image", "method": "em_fixed"}), "images": 10})
        if share is not None:
            streams[-1]["share"] = share
    facts = {"id": "some", "table": "own", "line": 1, "title": "Some", "fov": "large"}
    return Experiment.model_validate({**facts, "streams": streams})


@pytest.mark.parametrize(
    ("shares", "batch", "counts"),
    [
        ((1.0,), 7, [7]),
        ((0.5, 0.5), 20, [10, 10]),
        ((0.5, 0.5), 5, [3, 2]),  # of equal remainders the first
        ((None, None, None), 30, [10, 10, 10]),
        ((None, None, None), 8, [3, 3, 2]),
        ((0.1, 0.2, 0.7), 10, [1, 2, 7]),  # 0.7 * 10 is not 7 in floating point
        ((0.3, 0.3, 0.4), 8, [3, 2, 3]),  # 2.4, 2.4, 3.2: the largest remainders
        ((0.55, 0.45), 6, [3, 3]),  # 3.3, 2.7
    ],
)
def test_streams_give_their_share_by_largest_remainder(shares, batch, counts):
    assert images_of_batch(experiment(*shares), batch) == counts


@pytest.mark.parametrize(("shares", "batch"), [((0.5, 0.5), 1), ((0.05, 0.95), 8), ((None, None, None), 2)])
def test_a_stream_without_an_image_is_an_error(shares, batch):
    with pytest.raises(WeaksegError, match=rf"experiment some: a mini-batch of {batch} .* raise solver\.batch"):
        images_of_batch(experiment(*shares), batch)


def test_streams_are_named_by_kind_and_numbered_from_the_second():
    strong, image, box = (
        Stream(annotation=annotation, method=method, images=1)
        for annotation, method in (("strong", "pixel_labels"), ("image", "em_fixed"), ("box", "bbox_rect"))
    )
    assert stream_names([strong, image]) == ["strong", "weak"] and stream_names([box]) == ["weak"]
    assert stream_names([strong, strong, image, box, image]) == ["strong", "strong2", "weak", "weak2", "weak3"]


@pytest.fixture
def setup(voc, tmp_path):
    study = make_study(voc)
    return prepare_run(study, SEMI, 3, ready(study, tmp_path, [SEMI]))


def test_a_batch_holds_what_its_streams_are_told(setup):
    batch = setup.batches[4]
    strong, weak = batch.parts
    assert batch.inputs.shape == (4, 33, 33, 3)
    assert strong.label_map.shape == strong.inside.shape == (2, 5, 5) and strong.present is None
    assert weak.present.shape == (2, 21) and weak.label_map is None  # no truth can reach an E-step


def test_weak_images_are_told_what_their_crop_shows(own_voc, tmp_path):
    """The crop is drawn by seed, stream, iteration and place in the batch."""
    for image_id in WEAK_IDS:
        corner = np.zeros((40, 52), np.uint8)
        corner[:3, :3] = 8
        write_index_png(own_voc / "SegmentationClassAug" / f"{image_id}.png", corner, VOC)
    study = make_study(own_voc)
    setup = prepare_run(study, SEMI, 3, ready(study, tmp_path / "results", [SEMI]))
    fewer = 0
    for iteration in range(30):
        for slot, present in enumerate(setup.batches[iteration].parts[1].present):
            image_id = setup.batches.draws[1].stream[2 * iteration + slot]
            crop = setup.inputs.crop(image_id, np.random.default_rng([3, *b"weak", iteration, slot]))
            mask = np.array(Image.open(own_voc / "SegmentationClassAug" / f"{image_id}.png"))
            shown = np.unique(pad_crop(mask, crop.window, 255))
            assert set(np.flatnonzero(present)) == set(shown) - {255}
            fewer += len(set(np.unique(mask)) - set(shown))
    assert fewer  # some crops do not show all that the photo shows


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_leave_torch_s_random_numbers_alone_and_start_anywhere(setup, workers):
    before = torch.get_rng_state()
    all_of_them = list(setup.batches.iterate(0, 6, workers))
    later = list(setup.batches.iterate(4, 6, workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(all_of_them) == 6 and len(later) == 2
    for iteration, batch in ((4, later[0]), (5, later[1])):
        for other in (all_of_them[iteration], setup.batches[iteration]):
            assert (batch.inputs == other.inputs).all()
            assert (batch.parts[0].label_map == other.parts[0].label_map).all()
            assert (batch.parts[1].present == other.parts[1].present).all()
    assert not (all_of_them[0].inputs == all_of_them[1].inputs).all()


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_workers_change_no_bit_of_a_training(voc, tmp_path, frozen):
    study = make_study(voc, **({"network": network(tmp_path)} if frozen else {}))
    paths = ready(study, tmp_path / "results", [RECT])
    assert same(trained(study, RECT, paths, workers=0), trained(study, RECT, paths, workers=2))
