"""The networks that have weights: their names, and where to find class and config without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """Where one network lives; its class takes exactly its config."""

    module: str
    network: str  # class name in `module`
    config: str  # class name in `emotalk.config`

    def network_class(self) -> Any:
        """The class; imports torch."""
        return getattr(import_module(self.module), self.network)

    def config_class(self) -> Any:
        """The frozen dataclass of sizes."""
        return getattr(import_module("emotalk.config"), self.config)


NETWORKS: Mapping[str, NetworkEntry] = {
    "facefinder": NetworkEntry("emotalk.nets.facefinder", "FaceFinder", "FaceFinderConfig"),
    "landmarks": NetworkEntry("emotalk.nets.landmarks", "LandmarkNet", "LandmarkNetConfig"),
    "audio2landmark": NetworkEntry("emotalk.nets.audio2landmark", "Audio2Landmark", "Audio2LandmarkConfig"),
    "neutral2emotion": NetworkEntry("emotalk.nets.neutral2emotion", "Neutral2Emotion", "Neutral2EmotionConfig"),
    "refinement": NetworkEntry("emotalk.nets.refinement", "Refinement", "RefinementConfig"),
    "classifier": NetworkEntry("emotalk.nets.classifier", "Classifier", "ClassifierConfig"),
}
