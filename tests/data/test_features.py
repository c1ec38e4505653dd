"""The cache of a frozen trunk's maps."""

import numpy as np
import pytest
import torch

from weakseg.config import Network
from weakseg.data import features
from weakseg.data.features import FeatureCache, cache_facts, write_feature_cache
from weakseg.errors import WeaksegError


def maps():
    rng = torch.Generator().manual_seed(0)
    return [(f"image{n}", (33 + n, 40), torch.rand(5, 4 + n, 6, generator=rng) * 6) for n in range(3)]


@pytest.mark.parametrize(("bound", "tolerance"), [(6.0, 6 / 255 / 2 + 1e-6), (None, 2e-3)])
def test_maps_come_back_within_the_stored_precision(tmp_path, bound, tolerance):
    write_feature_cache(tmp_path / "maps.safetensors", maps(), bound=bound, metadata={"trunk": "any"})
    cache = FeatureCache(tmp_path / "maps.safetensors")
    assert cache.ids == ["image0", "image1", "image2"] and cache.metadata["trunk"] == "any"
    for image_id, size, values in maps():
        assert cache.size(image_id) == size
        assert (cache.maps(image_id) - values).abs().max() <= tolerance
        assert cache.raw(image_id).dtype == (np.float16 if bound is None else np.uint8)


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file

    write_feature_cache(tmp_path / "maps.safetensors", maps(), bound=6.0, metadata={})
    loaded = load_file(tmp_path / "maps.safetensors")
    cache = FeatureCache(tmp_path / "maps.safetensors")
    assert all(np.array_equal(loaded[i], cache.raw(i)) for i in cache.ids)


def test_nothing_is_left_when_the_trunk_fails(tmp_path):
    def breaking():
        yield maps()[0]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        write_feature_cache(tmp_path / "maps.safetensors", breaking(), bound=6.0, metadata={})
    assert not list(tmp_path.iterdir())


def test_bad_caches_and_unknown_images_are_named(tmp_path):
    with pytest.raises(WeaksegError, match="weakseg features"):
        FeatureCache(tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"123")
    with pytest.raises(WeaksegError, match="not a feature cache"):
        FeatureCache(tmp_path / "torn.safetensors")
    write_feature_cache(tmp_path / "maps.safetensors", maps(), bound=6.0, metadata={})
    with pytest.raises(WeaksegError, match="image9"):
        FeatureCache(tmp_path / "maps.safetensors").maps("image9")


NETWORK = {"trunk": "tiny", "crop_px": 33}


@pytest.mark.parametrize(
    ("network", "weights", "photos", "named"),
    [
        ({**NETWORK, "output_stride": 16}, "w", "p", "output_stride"),
        ({**NETWORK, "image_scale": 0.5}, "w", "p", "image_scale"),
        ({**NETWORK, "trunk": "squeezenet1_1"}, "w", "p", "trunk"),
        (NETWORK, "other", "p", "weights_sha256"),
        (NETWORK, "w", "other", "photos_sha256"),
    ],
)
def test_maps_of_another_trunk_or_other_photos_are_refused(tmp_path, network, weights, photos, named):
    path = tmp_path / "maps.safetensors"
    own = Network.model_validate(NETWORK)
    write_feature_cache(path, maps(), bound=6.0, metadata=cache_facts(own, "w", "p"))
    FeatureCache(path).check(own, "w", "p")
    with pytest.raises(WeaksegError, match=rf"maps\.safetensors: made with {named} .*run `weakseg features` again"):
        FeatureCache(path).check(Network.model_validate(network), weights, photos)


@pytest.mark.parametrize(("free", "held"), [(10**9, True), (10, False)])
def test_maps_are_held_in_memory_where_there_is_room(tmp_path, monkeypatch, free, held):
    path = tmp_path / "maps.safetensors"
    write_feature_cache(path, maps(), bound=6.0, metadata={})
    monkeypatch.setattr(features, "free_memory", lambda: free)
    cache = FeatureCache(path, memory_share=0.5)
    assert isinstance(cache._bytes, np.memmap) != held
    assert (cache.maps("image1") - maps()[1][2]).abs().max() <= 6 / 255 / 2 + 1e-6
    with pytest.raises(ValueError, match="read-only"):
        cache.raw("image1")[0, 0, 0] = 1
