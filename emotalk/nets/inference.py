"""Make a trained image network faster without changing what it says."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .blocks import ConvBlock


def for_inference(network: nn.Module, *, half: bool) -> nn.Module:
    """Fold batch statistics into the convolutions before them and lay the weights out for them, in place.

    Args:
        network: in `eval()`.
        half: keep the weights of the convolutions in bfloat16; the network must then run under autocast.
    """
    for block in network.modules():
        if isinstance(block, ConvBlock) and isinstance(block.norm, nn.BatchNorm2d):
            block.convolution = fuse_conv_bn_eval(block.convolution, block.norm)
            block.norm = nn.Identity()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if half:
                layer.bfloat16()
    return network
