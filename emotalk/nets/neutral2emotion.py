"""Face + condition -> the edit that gives this face that feeling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import Neutral2EmotionConfig
from .blocks import UNet, check_size
from .edit import Edit, EditHead


class Neutral2Emotion(nn.Module):
    """Residual encoder-decoder on the canonical crop, run once per condition.

    Shape:
        face:      (B, 3, S, S) in [-1, 1], the canonical crop at `config.size`.
        lines:     (B, 1, S, S) in [0, 1], all 68 resting landmarks drawn as curves.
        condition: (B, 12): emotion (8), intensity (3), eyelids closed (1).
        returns:   `Edit` on the S x S grid.

    Source:
        Wang et al., MEAD (ECCV 2020), section 4.2. Changed: any starting face instead of a neutral one, landmark
        lines beside the face, a continuous condition that modulates every level, the edit head.
    """

    def __init__(self, config: Neutral2EmotionConfig) -> None:
        super().__init__()
        self.config = config
        code = config.code_size
        self.embed = nn.Sequential(nn.Linear(config.condition_size, code), nn.SiLU(), nn.Linear(code, code), nn.SiLU())
        self.body = UNet(4, config.widths, residual_blocks=config.residual_blocks, code_size=code, norm=config.norm)
        self.head = EditHead(config.widths[0], config.head)

    def forward(self, face: Tensor, lines: Tensor, condition: Tensor) -> Edit:
        check_size(face, self.config.size, "neutral2emotion")
        x = torch.cat([face, lines * 2 - 1], dim=1)  # (B, 4, S, S)
        return self.head(self.body(x, self.embed(condition)))  # type: ignore[no-any-return]
