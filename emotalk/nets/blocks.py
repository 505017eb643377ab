"""Pieces that the image networks share."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


def normalisation(width: int, kind: str) -> nn.Module:
    """Normalisation by `kind`: "batch" for batches of 8 and more, "instance" for batch 1 as in the paper.

    Batch statistics are constants at inference, so a pixel never changes because another part of the picture moved:
    no flicker from a talking mouth. They also cost nothing there.
    """
    return nn.BatchNorm2d(width, momentum=0.05) if kind == "batch" else nn.InstanceNorm2d(width, affine=True)


class ConvBlock(nn.Module):
    """3x3 convolution, normalisation, optional feature-wise scale and shift by a condition, SiLU.

    Shape:
        x: (B, c_in, H, W); code: (B, code_size) or None. returns: (B, c_out, H / stride, W / stride).

    Source:
        Feature-wise modulation: Perez et al., FiLM (AAAI 2018). The paper tiles the condition onto the image once;
        modulating every level gave intensities in order with a far smaller network.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, code_size: int = 0, norm: str = "batch") -> None:
        super().__init__()
        self.convolution = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm = normalisation(c_out, norm)
        self.film = nn.Linear(code_size, 2 * c_out) if code_size else None
        if self.film is not None:
            nn.init.normal_(self.film.weight, std=0.02)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        x = self.norm(self.convolution(x))
        if self.film is not None and code is not None:
            scale, shift = self.film(code)[:, :, None, None].chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return F.silu(x)


class ResidualBlock(nn.Module):
    """Two ConvBlocks around a shortcut; same width in and out."""

    def __init__(self, width: int, *, code_size: int = 0, norm: str = "batch") -> None:
        super().__init__()
        self.first = ConvBlock(width, width, code_size=code_size, norm=norm)
        self.second = ConvBlock(width, width, code_size=code_size, norm=norm)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        return x + self.second(self.first(x, code), code)  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Encoder, residual blocks at the bottom, decoder with added skips.

    Skips are added, not concatenated: half the multiplications at the large sizes, no visible loss.

    Shape:
        x:       (B, c_in, H, W), H and W divisible by 2 ** (len(widths) - 1).
        code:    (B, code_size) or None.
        returns: (B, widths[0], H, W).
    """

    def __init__(
        self, c_in: int, widths: tuple[int, ...], *, residual_blocks: int, code_size: int = 0, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.stem = ConvBlock(c_in, widths[0], norm=norm)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            shrink = ConvBlock(narrow, wide, stride=2, norm=norm)
            self.down.append(nn.ModuleList([shrink, ConvBlock(wide, wide, code_size=code_size, norm=norm)]))
            grown = ConvBlock(narrow, narrow, code_size=code_size, norm=norm)
            self.up.append(nn.ModuleList([nn.Conv2d(wide, narrow, 1), grown]))
        bottom = (ResidualBlock(widths[-1], code_size=code_size, norm=norm) for _ in range(residual_blocks))
        self.middle = nn.ModuleList(bottom)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        skips = [self.stem(x)]
        for level in self.down:
            shrink, block = cast("nn.ModuleList", level)
            skips.append(block(shrink(skips[-1]), code))
        x = skips.pop()
        for block in self.middle:
            x = block(x, code)
        for level in reversed(list(self.up)):
            narrow, block = cast("nn.ModuleList", level)
            x = F.interpolate(narrow(x), scale_factor=2.0, mode="nearest")
            x = block(x + skips.pop(), code)
        return x


def check_size(x: Tensor, size: int, name: str) -> None:
    """Refuse pictures of another size than the network was made for."""
    if tuple(x.shape[-2:]) != (size, size):
        raise ValueError(f"{name} expects {size}x{size} pixels, got {tuple(x.shape[-2:])}")
