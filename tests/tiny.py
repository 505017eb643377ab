"""Every network from its real class at a few thousand weights: quick to build, run and save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emotalk.config import (
    Audio2LandmarkConfig,
    FaceFinderConfig,
    LandmarkNetConfig,
    Neutral2EmotionConfig,
    RefinementConfig,
)
from emotalk.nets import NETWORKS
from emotalk.weights import save_network

CONFIGS: dict[str, Any] = {
    "facefinder": FaceFinderConfig(widths=(4, 4, 8, 8)),
    "landmarks": LandmarkNetConfig(size=32, widths=(4, 4, 8, 8, 8)),
    "audio2landmark": Audio2LandmarkConfig(components=4, channels=(4, 4), embedding=8, units=6),
    "neutral2emotion": Neutral2EmotionConfig(size=32, code_size=8, widths=(4, 6, 8), residual_blocks=1),
    "refinement": RefinementConfig(size=32, widths=(4, 6, 8), residual_blocks=1),
}


def network(name: str, seed: int = 0, config: Any = None) -> nn.Module:
    """Network `name` with random weights that depend on the seed only, in eval()."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: nn.Module = NETWORKS[name].network_class()(config or CONFIGS[name])
    return module.eval()


def inputs(name: str, batch: int, seed: int = 0, size: int = 32) -> tuple[Tensor, ...]:
    """Random inputs of the right shape and range."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=random) * (high - low) + low

    if name == "audio2landmark":
        config = CONFIGS[name]
        return (uniform(-3, 3, 7, config.context, config.features),)
    picture = uniform(-1, 1, 3, size, size)
    if name == "neutral2emotion":
        return picture, uniform(0, 1, 1, size, size), uniform(0, 1, CONFIGS[name].condition_size)
    if name == "refinement":
        return picture, uniform(0, 1, 1, size, size), uniform(0, 1, 1, size, size)
    return (picture,)


def outputs(result: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """What a network returns, as a list."""
    return [result] if isinstance(result, Tensor) else list(result)


def save_all(folder: Path, seed: int = 0) -> Path:
    """A folder with tiny weights of every network, as `--weights` takes it."""
    for name, config in CONFIGS.items():
        save_network(folder / f"{name}.safetensors", network(name, seed), config)
    return folder
