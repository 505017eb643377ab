"""The stages of the training by name; each is imported only when it runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a stage lives."""

    module: str
    stage: str
    config: str
    cache: str  # what it prepares from the data; stages with the same name share it


STAGES: dict[str, Entry] = {
    "landmarks": Entry("emotalk.stages.landmarks", "LandmarksStage", "LandmarksStageConfig", "landmarks"),
    "audio2landmark": Entry(
        "emotalk.stages.audio2landmark", "Audio2LandmarkStage", "Audio2LandmarkStageConfig", "speech"
    ),
    "neutral2emotion": Entry(
        "emotalk.stages.neutral2emotion", "Neutral2EmotionStage", "Neutral2EmotionStageConfig", "puppets"
    ),
    "refinement": Entry("emotalk.stages.refinement", "RefinementStage", "RefinementStageConfig", "puppets"),
}


def find_stage(name: str) -> tuple[Any, Any]:
    """The stage class and its config class.

    Raises:
        ConfigError: if there is no such stage; the message lists those there are.
    """
    entry = STAGES.get(name)
    if entry is None:
        raise ConfigError(f"unknown stage {name!r} (known: {', '.join(STAGES)})")
    module = importlib.import_module(entry.module)
    return getattr(module, entry.stage), getattr(module, entry.config)
