"""Picture -> where faces of about 13 to 70 pixels lie in it; a pyramid of the picture covers all other sizes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import FaceFinderConfig
from .landmarks import ConvNorm, Residual, double


class FinderOutput(NamedTuple):
    """One value, or five points, for each 8x8 cell of the picture."""

    score: Tensor  # (B, H/8, W/8) logit: a face has its centre in this cell
    points: Tensor  # (B, H/8, W/8, 5, 2) picture pixels: eye centres, nose tip, mouth corners


class FaceFinder(nn.Module):
    """Fully convolutional finder of face centres and five points.

    Shape:
        picture: (B, 3, H, W) in [-1, 1], H and W multiples of 16.
        returns: FinderOutput.

    Source:
        Centres as peaks of a map: Zhou et al., "Objects as points" (2019).
    """

    def __init__(self, config: FaceFinderConfig) -> None:
        super().__init__()
        self.config = config
        stem, fine, middle, coarse = config.widths
        self.fine = nn.Sequential(ConvNorm(3, stem, 2), ConvNorm(stem, fine, 2))
        self.middle = nn.Sequential(ConvNorm(fine, middle, 2), Residual(middle), Residual(middle))
        self.coarse = nn.Sequential(ConvNorm(middle, coarse, 2), Residual(coarse), Residual(coarse))
        self.coarse_to_middle = nn.Conv2d(coarse, middle, 1)
        self.mix = Residual(middle)
        self.score = nn.Conv2d(middle, 1, 1)
        self.points = nn.Conv2d(middle, 10, 1)
        assert self.score.bias is not None
        nn.init.constant_(self.score.bias, -4.0)  # faces are rare: start near their share

    def forward(self, picture: Tensor) -> FinderOutput:
        middle = self.middle(self.fine(picture))
        middle = self.mix(middle + double(self.coarse_to_middle(self.coarse(middle))))
        score = self.score(middle)[:, 0].float()  # (B, H/8, W/8)
        offsets = self.points(middle).float().permute(0, 2, 3, 1)  # (B, H/8, W/8, 10)
        rows = torch.arange(score.shape[1], device=score.device) * 8.0 + 3.5
        columns = torch.arange(score.shape[2], device=score.device) * 8.0 + 3.5
        cell = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (H/8, W/8, 2)
        return FinderOutput(score, cell[:, :, None] + offsets.unflatten(-1, (5, 2)) * 16.0)
