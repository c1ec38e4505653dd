"""Fresh layers are scaled to what they see; layers from a file, random numbers and the mode of a network stay."""

import pytest
import torch

from weakseg.errors import WeaksegError
from weakseg.model import build_model
from weakseg.model.fresh_layers import (
    CELL_LENGTH,
    PROTOCOL_BROKEN,
    SCORE_RMS,
    FreshStart,
    fresh_layers,
    scale_fresh_layers,
)
from weakseg.model.heads import Head

NAMES = ("fc6", "fc7", "fc8", "skip")


def head_of(**changes) -> Head:
    torch.manual_seed(0)
    fields = {"fov": "large", "output_stride": 8, "num_labels": 4, "channels": 24, "skip_classifier": True, **changes}
    return Head(16, **fields)


def maps_of(scale: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [scale * torch.rand(1, 16, 9, width, generator=generator) for width in (9, 5, 7)]


def seen_by(head: Head, maps: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """What each layer gives, written out."""
    fc6 = [torch.relu(head.fc6(x)) for x in maps]
    fc7 = [torch.relu(head.fc7(x)) for x in fc6]
    return {"fc6": fc6, "fc7": fc7, "fc8": [head.fc8(x) for x in fc7], "skip": [head.skip(x) for x in maps]}


def length_of_cells(values: list[torch.Tensor]) -> float:
    """Root mean square of |h| over all cells."""
    cells = torch.cat([x.flatten(2).squeeze(0).T for x in values])
    return float(cells.norm(dim=1).square().mean().sqrt())


def rms(values: list[torch.Tensor]) -> float:
    return float(torch.cat([x.flatten() for x in values]).square().mean().sqrt())


@pytest.mark.parametrize("changes", [{}, {"fov": "small"}, {"separable_fc6": True}])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 18.0, 1e4])
@torch.no_grad()
def test_fresh_layers_give_maps_of_one_length_and_small_scores(changes, scale):
    head, maps = head_of(**changes), maps_of(scale)
    factors = scale_fresh_layers(head, maps, NAMES)
    seen = seen_by(head, maps)
    assert set(factors) == set(NAMES)
    kernel = 1 if changes.get("separable_fc6") else {"large": 3, "small": 4}[changes.get("fov", "large")]
    window = rms(maps) * (16 * kernel**2) ** 0.5
    assert length_of_cells(seen["fc6"]) == pytest.approx((window * CELL_LENGTH) ** 0.5, rel=0.01)
    assert length_of_cells(seen["fc7"]) == pytest.approx(CELL_LENGTH, rel=0.01)
    for name in ("fc8", "skip"):
        assert rms(seen[name]) < 1.01 * SCORE_RMS
    assert rms(seen["skip"]) == pytest.approx(
        SCORE_RMS if scale > 10 else rms(seen_by(head_of(**changes), maps)["skip"]), rel=0.01
    )


@torch.no_grad()
def test_biases_scale_with_their_weights():
    """A layer with biases gives exactly so many times what it gave."""
    head = head_of(separable_fc6=True)
    for name, parameter in head.named_parameters():
        if name.endswith("bias"):
            parameter.fill_(0.3)
    maps = maps_of(3.0)
    before = torch.relu(head.fc6(maps[0]))
    factors = scale_fresh_layers(head, maps, ["fc6"])
    torch.testing.assert_close(torch.relu(head.fc6(maps[0])), factors["fc6"] * before)


@torch.no_grad()
def test_layers_from_a_file_stay_and_those_after_them_see_what_they_give():
    head, maps = head_of(), maps_of(5.0)
    head.fc8.weight.mul_(20)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    factors = scale_fresh_layers(head, maps, ["fc7", "fc8"])
    changed = {name.split(".")[0] for name, value in head.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc7", "fc8"} == set(factors)
    assert length_of_cells(seen_by(head, maps)["fc7"]) == pytest.approx(CELL_LENGTH, rel=0.01)
    assert scale_fresh_layers(head, maps, []) == {}


def test_dropout_and_random_numbers_take_no_part():
    results = []
    for training in (True, False):
        head = head_of(dropout=0.9).train(training)
        state = torch.get_rng_state()
        results.append(scale_fresh_layers(head, maps_of(18.0), NAMES))
        assert torch.equal(torch.get_rng_state(), state)
        assert head.training == training and not any(p.grad_fn for p in head.parameters())
    assert results[0] == results[1]


def test_factors_are_the_same_where_sums_are_rounded_differently():
    maps = maps_of(18.0)
    assert scale_fresh_layers(head_of(), maps, NAMES) == scale_fresh_layers(head_of(), maps[::-1], NAMES)
    factors = scale_fresh_layers(head_of().double(), [x.double() for x in maps], NAMES)
    assert factors == scale_fresh_layers(head_of(), maps, NAMES)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_maps_that_cannot_be_measured_are_named(value):
    with pytest.raises(WeaksegError, match=r"the trunk: .* damaged"):
        scale_fresh_layers(head_of(), [torch.full((1, 16, 5, 5), value)], NAMES)


def test_what_is_fresh_is_what_did_not_come_from_the_file():
    model = build_model("tiny-largefov")
    names = {name for name, _ in model.named_parameters()}
    assert fresh_layers(model, frozenset()) == ("fc6", "fc7", "fc8")
    assert fresh_layers(model, {name for name in names if "fc6" in name}) == ("fc7", "fc8")
    assert fresh_layers(model, names - {"head.fc7.bias"}) == ("fc7",)
    assert fresh_layers(model, names) == ()


def test_a_line_says_what_is_fresh():
    text = FreshStart(("fc6", "fc8"), {"fc6": 0.111, "fc8": 1.0}, breaks_protocol=True).text()
    assert "fc6, fc8 fresh" in text and "fc6 x 0.111" in text and text.endswith(PROTOCOL_BROKEN)
    assert FreshStart((), {}, breaks_protocol=False).text() == "start: no layer fresh"
