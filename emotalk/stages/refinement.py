"""Train `refinement` on the puppet corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..config import RefinementConfig
from ..landmarks import LOWER_CURVES, draw_curves
from ..nets.edit import Edit
from ..nets.refinement import Refinement
from ..synth.corpus import PuppetConfig, build_corpus
from .puppets import Batch, EditStage, EditWeights, Sample, shaken

OPEN_SHARE = 0.02  # of the window: mask area from which a mouth counts as wide open


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementStageConfig:
    """Settings of one training run."""

    net: RefinementConfig = field(default_factory=RefinementConfig)
    puppets: PuppetConfig = field(default_factory=PuppetConfig)
    weights: EditWeights = field(default_factory=EditWeights)
    batch: int = 16
    learning_rate: float = 1.5e-3


class RefinementStage(EditStage):
    """Emotional face + resting and wanted lip lines -> edit of the lower window."""

    name = "refinement"
    line_images = 2
    judged_part = (slice(40, 120), slice(30, 130))

    def __init__(
        self, data: Path, config: RefinementStageConfig, *, device: torch.device, seed: int, cache: Path
    ) -> None:
        torch.manual_seed(seed)
        corpus = build_corpus(data, cache / "puppets", config.puppets)
        super().__init__(
            Refinement(config.net), corpus, config.weights,
            batch=config.batch, learning_rate=config.learning_rate, device=device, seed=seed,
        )  # fmt: skip

    @cached_property
    def chances(self) -> np.ndarray:
        """Open mouths more often: what is inside them is the hard part."""
        masks = self.corpus.arrays["mouth_mask"]
        open_share = np.array([masks[row, ::4, ::4].mean() / 255 for row in self.train_rows])
        chances = super().chances * (0.35 + np.minimum(open_share / OPEN_SHARE, 1))
        return chances / chances.sum()  # type: ignore[no-any-return]

    def read(self, row: int, rng: np.random.Generator | None) -> Sample:
        arrays = self.corpus.arrays
        height, width = arrays["mouth_mask"].shape[1:]
        resting, wanted = (arrays[name][row].astype(np.float64) for name in ("mouth_resting", "mouth_wanted"))
        if rng is not None:  # the detector errs on the face; the wish is built on the same error
            error = shaken(np.zeros_like(resting), rng, 0.4, 0.35)
            resting, wanted = resting + error, shaken(wanted + error, rng, 0.0, 0.15)
        return Sample(
            picture=arrays["mouth"][row].astype(np.float32) / 255,
            lines=(draw_curves(resting, height, width, LOWER_CURVES), draw_curves(wanted, height, width, LOWER_CURVES)),
            flow=arrays["mouth_flow"][row].astype(np.float32),
            gain=arrays["mouth_gain"][row].astype(np.float32),
            mask=arrays["mouth_mask"][row].astype(np.float32) / 255,
            colour=arrays["mouth_colour"][row].astype(np.float32) / 255,
            inside=arrays["mouth_inside"][row].astype(np.float32),
            condition=None,
        )

    def run(self, net: nn.Module, batch: Batch) -> Edit:
        return net(batch.picture, batch.lines[:, :1], batch.lines[:, 1:])  # type: ignore[no-any-return]
