"""Mini-batches of photos: every way to keep the photos gives those of a plain loop over files."""

import numpy as np
import pytest
import torch
from fabricate import make_study, write_voc
from PIL import Image

from train.runs import SEMI, ready, same, trained
from weakseg.config import Preprocessing
from weakseg.data.dataset import open_data
from weakseg.data.transforms import crop_places, pad_crop, random_window, scaled_size
from weakseg.errors import WeaksegError
from weakseg.model import preprocess
from weakseg.train import photos
from weakseg.train.photos import HeldPhotos
from weakseg.train.samples import CropFinisher, DevicePhotoInputs, HostPhotoInputs, PhotoInputs, visible_part
from weakseg.train.setup import prepare_run

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CAFFE = {"channel_order": "BGR", "scale": 1, "mean": [103.939, 116.779, 123.68], "std": [1, 1, 1]}
CONVENTIONS = [
    Preprocessing(),
    Preprocessing.model_validate(CAFFE),
    Preprocessing(std=(0.3, 0.2, 0.1), scale=1 / 127.5),
]


def plain_crop(image: np.ndarray, network, preprocessing: Preprocessing, rng: np.random.Generator) -> np.ndarray:
    """A crop as the network takes it, (3, s, s), all of it in the photo's own process: scaled, cut, padded with the
    mean pixel, mirrored, preprocessed."""
    size, seen = image.shape[:2], scaled_size(image.shape, network.image_scale)
    if seen != size:
        image = np.asarray(Image.fromarray(image).resize(seen[::-1], Image.Resampling.BILINEAR))
    window = random_window(rng, crop_places(size, network.crop_px, network.image_scale, 8, 1), network.crop_px)
    mean = np.array(preprocessing.mean) / preprocessing.scale
    fill = (mean if preprocessing.channel_order == "RGB" else mean[::-1]).astype(np.float32)
    return preprocess(pad_crop(image.astype(np.float32), window, fill), preprocessing).numpy()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory):
    """Photos that are larger than a crop of 33 pixels, smaller in one side, or in both."""
    root = write_voc(tmp_path_factory.mktemp("sizes") / "VOC2012", size=(40, 52))
    rng = np.random.default_rng(0)
    for n, size in enumerate([(20, 60), (60, 20), (9, 7), (33, 33)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"2007_{n:06d}.jpg", quality=95)
        Image.fromarray(np.zeros(size, np.uint8)).save(root / "SegmentationClassAug" / f"2007_{n:06d}.png")
    return root


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("preprocessing", CONVENTIONS, ids=["rgb", "caffe", "other"])
@pytest.mark.parametrize("kept", ["files", "host", "device"])
def test_a_batch_is_that_of_a_plain_loop(two_sizes, tmp_path, device, kept, preprocessing, scale):
    network = {"trunk": "tiny", "crop_px": 33, "image_scale": scale}
    study = make_study(two_sizes, network=network)
    data = open_data(ready(study, tmp_path, []).manifest)
    ids, network = data.ids("training"), study.network
    inputs = PhotoInputs(data, network, preprocessing)
    if kept != "files":
        where = device if kept == "device" else CPU
        kind = DevicePhotoInputs if kept == "device" else HostPhotoInputs
        inputs = kind(data, network, preprocessing, HeldPhotos(data, [*ids, ids[0]], scale, where, threads=2))
    crops = [inputs.crop(i, np.random.default_rng([n, 5])) for n, i in enumerate(ids)]
    visible = np.array([visible_part(crop, network) for crop in crops], dtype=np.int64)
    batch = inputs.batch(np.stack([crop.inputs for crop in crops]), visible, device)
    wanted = [
        plain_crop(data.image(i), network, preprocessing, np.random.default_rng([n, 5])) for n, i in enumerate(ids)
    ]
    assert batch.dtype == torch.float32 and batch.is_contiguous(memory_format=torch.channels_last)
    assert {crop.window.mirrored for crop in crops} == {True, False} and (visible[:, :2] < 33).any()
    if device == CPU:  # the CPU's trainings stay what they were
        assert np.array_equal(batch.numpy(), np.stack(wanted))
    np.testing.assert_allclose(batch.cpu().numpy(), np.stack(wanted), atol=1e-4)


def test_where_photos_are_kept_changes_no_bit_of_a_training(voc, tmp_path):
    models, hashes = [], []
    for kept in ("files", "host", "device"):
        study = make_study(voc, compute={"photos": kept})
        paths = ready(study, tmp_path / kept, [SEMI])
        models.append(trained(study, SEMI, paths, workers=0 if kept == "files" else 2))
        hashes.append(prepare_run(study, SEMI, 0, paths).decided_by["hash"])
    assert same(models[0], models[1]) and same(models[0], models[2]) and len(set(hashes)) == 1


def test_each_photo_is_decoded_once(voc, tmp_path, monkeypatch):
    study = make_study(voc)
    data = open_data(ready(study, tmp_path, []).manifest)
    ids, read = data.ids("training"), []
    whole = type(data).image
    monkeypatch.setattr(type(data), "image", lambda self, i: read.append(i) or whole(self, i))
    held = HeldPhotos(data, ids + ids, 1.0, CPU)
    inputs = HostPhotoInputs(data, study.network, Preprocessing(), held)
    for image_id in ids * 2:
        inputs.crop(image_id, np.random.default_rng(0))
    assert sorted(read) == sorted(ids) and held.pixels.shape == (len(ids) * 40 * 52, 3)


def test_photos_that_do_not_fit_say_what_to_do(voc, tmp_path, monkeypatch):
    data = open_data(ready(make_study(voc), tmp_path, []).manifest)
    monkeypatch.setattr(photos, "free_memory", lambda: 100_000)
    HeldPhotos(data, data.ids("training"), 1.0, CPU)
    with pytest.raises(WeaksegError, match=r"8 decoded photos take 0.0 GB, .* set it to `files`"):
        HeldPhotos(data, data.ids("training"), 1.0, CPU, processes=2)


def test_another_process_gets_places_without_pixels(voc, tmp_path):
    import pickle

    study = make_study(voc)
    data = open_data(ready(study, tmp_path, []).manifest)
    held = HeldPhotos(data, data.ids("training"), 1.0, CPU)
    inputs = DevicePhotoInputs(data, study.network, Preprocessing(), held)
    copy = pickle.loads(pickle.dumps(inputs))
    first = data.ids("training")[0]
    assert copy.pixels is None and (copy.crop(first, np.random.default_rng(1)).inputs == inputs.crop(
        first, np.random.default_rng(1)).inputs).all()  # fmt: skip


def test_padding_becomes_zero_and_mirroring_takes_it_along():
    pixels = torch.full((2, 4, 4, 3), 200, dtype=torch.uint8)
    done = CropFinisher(Preprocessing())(pixels, torch.tensor([[4, 3, 0], [2, 3, 1]]))
    assert (done[0, :, :, 3].abs() < 1e-6).all() and (done[0, :, :, :3] > 1).all()
    assert (done[1, :, :, 0].abs() < 1e-6).all() and (done[1, :, 2:].abs() < 1e-6).all()
    assert (done[1, :, :2, 1:] > 1).all()
