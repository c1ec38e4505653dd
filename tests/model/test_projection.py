"""The projection of a map on its principal axes, held against a singular value decomposition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.errors import WeaksegError
from weakseg.model.projection import load_projection, principal_projection, save_projection


def maps_of(rng: np.random.Generator, channels: int, photos: int = 3) -> list[torch.Tensor]:
    """Maps of several sizes whose channels hang together, with a mean far from 0."""
    mixing = rng.normal(size=(channels, channels))
    sizes = rng.integers(3, 9, (photos, 2))
    return [
        torch.from_numpy(5 + np.einsum("dc,chw->dhw", mixing, rng.normal(size=(channels, *size)))).float()
        for size in sizes
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(2, 8), data=st.data())
def test_axes_are_those_of_a_singular_value_decomposition(seed: int, channels: int, data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, channels))
    maps = maps_of(np.random.default_rng(seed), channels)
    projection, share = principal_projection(maps, axes)
    cells = np.concatenate([m.flatten(1).T.double().numpy() for m in maps])
    centred = cells - cells.mean(0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    wanted = centred @ rows[:axes].T
    wanted /= np.sqrt((wanted**2).mean())
    found = np.concatenate([projection(m[None])[0].flatten(1).T.double().numpy() for m in maps])
    # Axes have no sign of their own: here the largest weight of each is positive.
    signs = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found, wanted * signs, rtol=2e-3, atol=2e-3)
    weights = projection.weight.numpy()
    assert (np.take_along_axis(weights, np.abs(weights).argmax(1)[:, None], 1) > 0).all()
    assert share == pytest.approx((singular[:axes] ** 2).sum() / (singular**2).sum(), abs=1e-6)
    assert np.abs(found.mean(0)).max() < 1e-3 and (found**2).mean() == pytest.approx(1, rel=1e-3)


def test_a_projection_comes_back_with_its_facts(tmp_path) -> None:
    projection, _ = principal_projection(maps_of(np.random.default_rng(0), 5), 3)
    save_projection(tmp_path / "axes.safetensors", projection, {"photos": 3})
    loaded, facts = load_projection(tmp_path / "axes.safetensors")
    assert facts == {"photos": 3}
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in projection.state_dict().items())


def test_what_cannot_be_projected_is_named(tmp_path) -> None:
    with pytest.raises(WeaksegError, match="no photos"):
        principal_projection([], 2)
    with pytest.raises(WeaksegError, match="principal_axes is 6, and the trunk's map has 5 channels"):
        principal_projection(maps_of(np.random.default_rng(0), 5), 6)
    with pytest.raises(WeaksegError, match="every cell the same"):
        principal_projection([torch.ones(5, 4, 4)], 2)
    with pytest.raises(WeaksegError, match="weakseg projection"):
        load_projection(tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"123")
    with pytest.raises(WeaksegError, match="not a projection"):
        load_projection(tmp_path / "torn.safetensors")
