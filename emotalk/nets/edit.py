"""What both image networks say: how to move, shade and repaint a picture, at whatever size the picture has."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .limits import MAX_GAIN

EDIT_CHANNELS = 7  # flow 2, gain 1, mask 1, colour 3


class Edit(NamedTuple):
    """`out = (1 - mask) * gain * warp(in, flow) + mask * colour`, on intensities in [0, 1].

    The paper's decoder paints every pixel. Here only what the photograph does not hold (teeth, tongue, lids) is
    painted; everything else keeps the photograph's own pixels, moved and shaded. The plain head of the paper is
    the special case mask = 1.

    Shape:
        flow:   (B, 2, H, W) x then y, in pixels of this grid: output pixel p takes the input at p + flow(p).
        gain:   (B, 1, H, W) around 1: shading of creases, from wrinkles that the move makes or removes.
        mask:   (B, 1, H, W) in [0, 1].
        colour: (B, 3, H, W) in [-1, 1].
    """

    flow: Tensor
    gain: Tensor
    mask: Tensor
    colour: Tensor


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` at p + flow(p), bilinear, borders repeated.

    Shape:
        image: (B, C, H, W); flow: (B, 2, H, W) pixels, x then y.
        returns: (B, C, H, W).
    """
    height, width = image.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    grid_x = (2 * (x + flow[:, 0]) + 1) / width - 1  # (B, H, W)
    grid_y = (2 * (y + flow[:, 1]) + 1) / height - 1
    grid = torch.stack([grid_x, grid_y], dim=-1)  # (B, H, W, 2)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def apply_edit(image: Tensor, edit: Edit) -> Tensor:
    """Carry out `edit` on images of its own size, (B, 3, H, W) in [-1, 1]; differentiable."""
    moved = edit.gain * (warp(image, edit.flow) + 1) / 2
    painted = (edit.colour + 1) / 2
    return ((1 - edit.mask) * moved + edit.mask * painted).clamp(0, 1) * 2 - 1


class EditHead(nn.Module):
    """Last layer of an image network: features to an `Edit`; starts as the identity.

    Shape:
        features: (B, width, H, W).
        returns:  `Edit` on the same grid.
    """

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.last = nn.Conv2d(width, 3 if kind == "rgb" else EDIT_CHANNELS, 7 if kind == "rgb" else 3, padding="same")
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Edit:
        raw = self.last(features).float()
        if self.kind == "rgb":  # the paper: 7x7 convolution and tanh paint the whole picture
            one = torch.ones_like(raw[:, :1])
            return Edit(torch.zeros_like(raw[:, :2]), one, one, torch.tanh(raw))
        gain = 1 + MAX_GAIN * torch.tanh(raw[:, 2:3])
        mask = torch.sigmoid(raw[:, 3:4] - 3)  # starts nearly shut
        return Edit(raw[:, :2] * 4, gain, mask, torch.tanh(raw[:, 4:7]))
