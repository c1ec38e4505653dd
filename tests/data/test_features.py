"""The cache of a frozen trunk's maps."""

import numpy as np
import pytest
import torch

from weakseg.data.features import FeatureCache, write_feature_cache
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
