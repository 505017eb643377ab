"""Patch discriminator: says for each patch of a picture whether it looks real. Used by training only."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..config import DiscriminatorConfig


class PatchDiscriminator(nn.Module):
    """Strided 4x4 convolutions that end in one score per patch.

    Shape:
        x:       (B, C, H, W); what the picture is conditioned on (lines) is concatenated by the caller.
        returns: (B, 1, h, w) unbounded scores, H / 2**levels - 2 by W / 2**levels - 2.

    Source:
        Isola et al., pix2pix (CVPR 2017), appendix 6.1.2: three levels see patches of 70x70 pixels.
        Spectral normalisation: Miyato et al. (ICLR 2018).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        spectral = config.normalisation == "spectral"

        def convolution(c_in: int, c_out: int, stride: int) -> nn.Module:
            layer = nn.Conv2d(c_in, c_out, 4, stride, 1)
            return spectral_norm(layer) if spectral else layer

        layers: list[nn.Module] = []
        c_in = config.channels
        for level in range(config.levels + 1):
            c_out = min(config.width * 2**level, 8 * config.width)
            layers.append(convolution(c_in, c_out, 2 if level < config.levels else 1))
            if not spectral and level > 0:
                layers.append(nn.InstanceNorm2d(c_out, affine=True))
            layers.append(nn.LeakyReLU(0.2))
            c_in = c_out
        layers.append(convolution(c_in, 1, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]
