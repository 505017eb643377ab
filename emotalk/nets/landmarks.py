"""Aligned picture of a face -> its 68 points, by soft-argmax over one small map per point."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import LandmarkNetConfig


class ConvNorm(nn.Sequential):
    """Convolution 3x3, batch norm, ReLU. `stride` 2 halves the side."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class LandmarkOutput(NamedTuple):
    """What `LandmarkNet` says about a batch of crops."""

    points: Tensor  # (B, 68, 2) crop pixels, x then y; pixel centres lie at integers
    face: Tensor  # (B,) logit: is this a face, and roughly in place
    maps: Tensor  # (B, 68, S/4, S/4) logits behind the points, for the training loss


class LandmarkNet(nn.Module):
    """68 points of one face in a roughly aligned crop.

    Four levels, each half as large as the one before; the two finest are rebuilt from the coarser ones, so that every
    map sees the whole face. A point is the mean position under the softmax of its map (Sun et al., "Integral human pose
    regression", ECCV 2018): finer than a pixel and smooth over time.

    Shape:
        crop:    (B, 3, size, size) in [-1, 1].
        returns: LandmarkOutput.
    """

    def __init__(self, config: LandmarkNetConfig) -> None:
        super().__init__()
        self.config = config
        stem, fine, middle, coarse, whole = config.widths
        self.stem = ConvNorm(3, stem, 2)
        self.fine = nn.Sequential(ConvNorm(stem, fine, 2), Residual(fine))
        self.middle = nn.Sequential(ConvNorm(fine, middle, 2), Residual(middle), Residual(middle))
        self.coarse = nn.Sequential(ConvNorm(middle, coarse, 2), Residual(coarse), Residual(coarse))
        self.whole = nn.Sequential(ConvNorm(coarse, whole, 2), Residual(whole))
        self.face = nn.Linear(whole, 1)
        self.whole_to_coarse = nn.Conv2d(whole, coarse, 1)
        self.coarse_to_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_to_fine = nn.Conv2d(middle, fine, 1)
        self.mix_coarse = Residual(coarse)
        self.mix_middle = Residual(middle)
        self.mix_fine = Residual(fine)
        self.maps = nn.Conv2d(fine, config.points, 1)
        side = config.size // 4
        self.register_buffer("places", torch.arange(side) * 4.0 + 1.5, persistent=False)
        self.places: Tensor

    def forward(self, crop: Tensor) -> LandmarkOutput:
        fine = self.fine(self.stem(crop))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        whole = self.whole(coarse)
        face = self.face(whole.mean((2, 3)))[:, 0]  # (B,)
        coarse = self.mix_coarse(coarse + double(self.whole_to_coarse(whole)))
        middle = self.mix_middle(middle + double(self.coarse_to_middle(coarse)))
        fine = self.mix_fine(fine + double(self.middle_to_fine(middle)))
        maps = self.maps(fine).float()
        share = maps.flatten(2).softmax(-1).view_as(maps)  # (B, 68, S/4, S/4), sums to 1
        points = torch.stack([share.sum(2) @ self.places, share.sum(3) @ self.places], -1)  # (B, 68, 2)
        return LandmarkOutput(points, face.float(), maps)


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour enlargement by 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
