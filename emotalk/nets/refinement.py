"""Emotional face + wanted lip and jaw lines -> the edit that makes one talking frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import RefinementConfig
from .blocks import UNet, check_size
from .edit import Edit, EditHead


class Refinement(nn.Module):
    """U-Net on the lower window of the canonical crop, run once per frame.

    Shape:
        face:    (B, 3, S, S) in [-1, 1], the emotional face inside `landmarks.LOWER_WINDOW`.
        resting: (B, 1, S, S) in [0, 1], its own lip and jaw lines.
        wanted:  (B, 1, S, S) in [0, 1], the lip and jaw lines it shall have.
        returns: `Edit` on the S x S grid.

    Source:
        Wang et al., MEAD (ECCV 2020), section 4.3. Changed: the resting lines make the displacement explicit, only
        the window that speech moves is computed, and the edit head keeps the skin of the photograph.
    """

    def __init__(self, config: RefinementConfig) -> None:
        super().__init__()
        self.config = config
        self.body = UNet(5, config.widths, residual_blocks=config.residual_blocks, norm=config.norm)
        self.head = EditHead(config.widths[0], config.head)

    def forward(self, face: Tensor, resting: Tensor, wanted: Tensor) -> Edit:
        check_size(face, self.config.size, "refinement")
        x = torch.cat([face, resting * 2 - 1, wanted * 2 - 1], dim=1)  # (B, 5, S, S)
        return self.head(self.body(x))  # type: ignore[no-any-return]
