"""The edit of the image networks: known values of warp and edit, the heads, the condition, the sizes of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from emotalk.config import Neutral2EmotionConfig, RefinementConfig
from emotalk.errors import ConfigError
from emotalk.nets.blocks import UNet
from emotalk.nets.edit import Edit, EditHead, apply_edit, warp
from emotalk.nets.limits import MAX_GAIN
from emotalk.nets.neutral2emotion import Neutral2Emotion
from emotalk.nets.refinement import Refinement

IMAGE_NETS = ["neutral2emotion", "refinement"]
image_nets = pytest.mark.parametrize("name", IMAGE_NETS)


def picture(batch: int = 1, height: int = 9, width: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def still(image: Tensor) -> Edit:
    """The edit that changes nothing."""
    zero = torch.zeros_like(image[:, :1])
    return Edit(torch.cat([zero, zero], 1), zero + 1, zero, torch.zeros_like(image))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (-2, 0), (0, 1), (2, -3)])
def test_warp_by_whole_pixels_is_a_roll_away_from_the_border(x: int, y: int) -> None:
    """Output p takes the input at p + flow: a picture seen through flow (x, y) moves by (-x, -y)."""
    image = picture(2)
    moved = warp(image, torch.tensor([x, y], dtype=torch.float32)[None, :, None, None].expand(2, 2, 9, 12))

    rolled = torch.roll(image, (-y, -x), (2, 3))
    inner = (..., slice(max(-y, 0), 9 - max(y, 0)), slice(max(-x, 0), 12 - max(x, 0)))
    torch.testing.assert_close(moved[inner], rolled[inner], atol=1e-5, rtol=0)


def test_warp_by_half_a_pixel_is_the_mean_of_neighbours_and_borders_are_repeated() -> None:
    image = picture()
    flow = torch.zeros(1, 2, 9, 12)
    flow[:, 0] = 0.5
    moved = warp(image, flow)
    torch.testing.assert_close(moved[..., :-1], (image[..., :-1] + image[..., 1:]) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., -1], image[..., -1], atol=1e-5, rtol=0)
    flow[:, 0] = 100
    torch.testing.assert_close(warp(image, flow), image[..., -1:].expand_as(image))


def test_every_pixel_has_its_own_flow() -> None:
    image = picture()
    flow = torch.zeros(1, 2, 9, 12)
    flow[0, :, 4, 5] = torch.tensor([2.0, -1.0])
    moved = warp(image, flow)
    torch.testing.assert_close(moved[0, :, 4, 5], image[0, :, 3, 7], atol=1e-5, rtol=0)
    flow[0, :, 4, 5] = 0
    assert torch.equal(warp(image, flow)[0, :, 4, 6], moved[0, :, 4, 6])


def test_the_still_edit_changes_nothing() -> None:
    image = picture()
    torch.testing.assert_close(apply_edit(image, still(image)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("value", "gain", "mask", "colour", "expected"),
    [
        (0.0, 1.2, 0.0, 0.0, 0.2),  # intensity 0.5 -> 0.6
        (-1.0, 1.5, 0.0, 0.0, -1.0),  # gain is a share of intensity: black stays black
        (0.8, 1.6, 0.0, 0.0, 1.0),  # white is the end
        (0.3, 1.4, 1.0, -0.4, -0.4),  # painted, whatever the gain
        (0.0, 1.0, 0.25, 1.0, 0.25),  # 0.75 * 0.5 + 0.25 * 1 = 0.625
        (0.0, 0.5, 0.5, 0.0, -0.25),  # 0.5 * 0.25 + 0.5 * 0.5 = 0.375
    ],
)
def test_an_edit_by_hand(value: float, gain: float, mask: float, colour: float, expected: float) -> None:
    image = torch.full((1, 3, 4, 4), value)
    one = torch.ones(1, 1, 4, 4)
    edit = Edit(torch.zeros(1, 2, 4, 4), one * gain, one * mask, torch.full_like(image, colour))
    torch.testing.assert_close(apply_edit(image, edit), torch.full_like(image, expected), atol=1e-6, rtol=0)


def test_an_edit_has_a_gradient_for_each_of_its_parts() -> None:
    image = picture() * 0.5
    parts = [t.clone().requires_grad_() for t in still(image)]
    parts[0].data += 0.3  # away from the kinks of bilinear sampling
    parts[2].data += 0.5
    apply_edit(image, Edit(*parts)).square().sum().backward()
    assert all(bool(t.grad is not None and t.grad.abs().sum() > 0) for t in parts)


@image_nets
def test_a_fresh_network_hardly_touches_the_face(name: str) -> None:
    given = tiny.inputs(name, 2)
    with torch.no_grad():
        edit = tiny.network(name)(*given)
    assert float(edit.flow.abs().max()) < 0.25
    assert float((edit.gain - 1).abs().max()) < 0.05
    assert float(edit.mask.max()) < 0.06
    inner = (..., slice(1, -1), slice(1, -1))
    assert float((apply_edit(given[0], edit) - given[0]).abs()[inner].mean()) < 0.1


def test_the_edit_head_keeps_its_ranges_however_strong_the_features() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        edit = EditHead(4, "edit")(torch.randn(2, 4, 16, 16) * 1e5)
    assert float((edit.gain - 1).abs().max()) == pytest.approx(MAX_GAIN)
    assert 0 <= float(edit.mask.min()) < 1e-6 and 1 - 1e-6 < float(edit.mask.max()) <= 1
    assert float(edit.colour.abs().max()) <= 1


@image_nets
def test_the_head_of_the_paper_paints_the_whole_picture(name: str) -> None:
    module = tiny.network(name, config=replace(tiny.CONFIGS[name], head="rgb"))
    assert module.head.last.kernel_size == (7, 7)  # type: ignore[union-attr]
    given = tiny.inputs(name, 2)
    with torch.no_grad():
        edit = module(*given)
        made = apply_edit(given[0], edit)
    assert bool((edit.mask == 1).all()) and not bool(edit.flow.any())
    torch.testing.assert_close(made, edit.colour, atol=1e-6, rtol=0)
    assert float((edit.colour[0] - edit.colour[1]).abs().max()) > 0


@image_nets
def test_instance_normalisation_trains_with_batch_one(name: str) -> None:
    """And what one face gets does not depend on its neighbours, even while training."""
    module = tiny.network(name, config=replace(tiny.CONFIGS[name], norm="instance")).train()
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    given = tiny.inputs(name, 3)
    together = module(*given)
    alone = module(*(t[1:2] for t in given))
    for part, one in zip(together, alone, strict=True):
        torch.testing.assert_close(part[1:2], one, atol=1e-5, rtol=1e-4)
    sum(part.sum() for part in alone).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


@image_nets
def test_batch_normalisation_is_constant_at_inference(name: str) -> None:
    module = tiny.network(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module(*tiny.inputs(name, 2))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    module.train()(*tiny.inputs(name, 2))
    assert any(not torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_the_condition_reaches_every_level() -> None:
    """Each level of the network that is modulated passes on a wish by itself."""
    module = tiny.network("neutral2emotion")
    face, lines, condition = tiny.inputs("neutral2emotion", 1)
    films = [part for part in module.modules() if getattr(part, "film", None) is not None]
    levels = len(tiny.CONFIGS["neutral2emotion"].widths) - 1
    assert len(films) == 2 * levels + 2  # down and up of each level, two in the one residual block
    for film in films:
        with torch.no_grad():
            for other in films:
                other.film.weight.zero_()  # type: ignore[union-attr, operator]
            film.film.weight.normal_(0, 1)  # type: ignore[union-attr, operator]
            one, two = module(face, lines, condition), module(face, lines, 1 - condition)
        assert not torch.equal(one.flow, two.flow)


def test_each_number_of_the_condition_has_a_gradient() -> None:
    module = tiny.network("neutral2emotion")
    face, lines, condition = tiny.inputs("neutral2emotion", 2)
    condition.requires_grad_()
    edit = module(face, lines, condition)
    sum(part.square().sum() for part in edit).backward()
    assert condition.grad is not None and bool((condition.grad.abs() > 0).all())


@image_nets
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 33}, r"size is 33; with 3 levels it must be a multiple of 4"),
        ({"size": 30}, r"multiple of 4"),
        ({"size": 0}, r"multiple of 4"),
        ({"widths": (8,)}, r"at least two"),
        ({"widths": (8, 0)}, r"positive"),
        ({"head": "paint"}, r"head is 'paint'; it must be edit or rgb"),
        ({"norm": "layer"}, r"norm is 'layer'; it must be batch or instance"),
    ],
)
def test_impossible_sizes_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}\.(.*){message}"):
        replace(tiny.CONFIGS[name], **changes)


@pytest.mark.parametrize("config", [Neutral2EmotionConfig(), RefinementConfig()], ids=["neutral2emotion", "refinement"])
def test_the_shipped_sizes_can_be_built(config: Any) -> None:
    net = Neutral2Emotion(config) if isinstance(config, Neutral2EmotionConfig) else Refinement(config)
    count = sum(p.numel() for p in net.parameters())
    assert 1e6 < count < 4e6


@pytest.mark.parametrize("kind", [Neutral2EmotionConfig, RefinementConfig])
def test_the_sizes_of_the_paper_can_be_built(kind: Any) -> None:
    """384 px, painted head, batch 1."""
    paper = kind(size=384, widths=(64, 128, 256, 512), residual_blocks=6, head="rgb", norm="instance")
    with torch.device("meta"):  # built without memory
        net: Any = Neutral2Emotion(paper) if kind is Neutral2EmotionConfig else Refinement(paper)
    assert len(net.body.middle) == 6
    assert net.head.last.weight.shape == (3, 64, 7, 7)


def test_a_u_net_without_condition_ignores_none() -> None:
    torch.manual_seed(0)
    net = UNet(2, (4, 6, 8), residual_blocks=1).eval()
    x = torch.rand(1, 2, 16, 24)
    assert net(x).shape == (1, 4, 16, 24)
    assert torch.equal(net(x), net(x, None))
