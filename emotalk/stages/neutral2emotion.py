"""Train `neutral2emotion` on the puppet corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config import Neutral2EmotionConfig
from ..emotions import EMOTIONS, Emotion, condition_vector
from ..landmarks import draw_curves
from ..nets.edit import Edit, apply_edit
from ..nets.neutral2emotion import Neutral2Emotion
from ..synth.corpus import PuppetConfig, build_corpus
from .puppets import Batch, EditStage, EditWeights, Sample, collate, shaken, to_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Neutral2EmotionStageConfig:
    """Settings of one training run."""

    net: Neutral2EmotionConfig = field(default_factory=Neutral2EmotionConfig)
    puppets: PuppetConfig = field(default_factory=PuppetConfig)
    weights: EditWeights = field(default_factory=EditWeights)
    batch: int = 16
    learning_rate: float = 1.5e-3


class Neutral2EmotionStage(EditStage):
    """Face + condition -> edit, supervised with the puppets' true motion, shading and mouth interior."""

    name = "neutral2emotion"

    def __init__(
        self, data: Path, config: Neutral2EmotionStageConfig, *, device: torch.device, seed: int, cache: Path
    ) -> None:
        torch.manual_seed(seed)
        corpus = build_corpus(data, cache / "puppets", config.puppets)
        super().__init__(
            Neutral2Emotion(config.net), corpus, config.weights,
            batch=config.batch, learning_rate=config.learning_rate, device=device, seed=seed,
        )  # fmt: skip

    def read(self, row: int, rng: np.random.Generator | None) -> Sample:
        arrays = self.corpus.arrays
        height, width = arrays["face_mask"].shape[1:]
        points = shaken(arrays["face_points"][row].astype(np.float64), rng, 0.3, 0.3)
        return Sample(
            picture=arrays["face"][row].astype(np.float32) / 255,
            lines=(draw_curves(points, height, width),),
            flow=arrays["face_flow"][row].astype(np.float32),
            gain=arrays["face_gain"][row].astype(np.float32),
            mask=arrays["face_mask"][row].astype(np.float32) / 255,
            colour=arrays["face_colour"][row].astype(np.float32) / 255,
            inside=arrays["face_inside"][row].astype(np.float32),
            condition=np.array(arrays["condition"][row], np.float32),
        )

    def may_mirror(self, sample: Sample) -> bool:
        return sample.condition is not None and sample.condition[Emotion.CONTEMPT.index] == 0  # contempt has a side

    def run(self, net: nn.Module, batch: Batch) -> Edit:
        return net(batch.picture, batch.lines, batch.condition)  # type: ignore[no-any-return]

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Dev faces (rows) as they are and with the eight emotions at intensity 3."""
        rows = self.dev_rows[:: self.corpus.config.per_face][:8]
        batch = collate([self.read(int(r), None) for r in rows], self.device)
        columns: list[Tensor] = [batch.picture]
        for emotion in EMOTIONS:
            wish = torch.from_numpy(np.append(condition_vector(emotion, 3.0), np.float32(0))).to(self.device)
            asked = batch._replace(condition=wish.expand(len(rows), -1))
            columns.append(apply_edit(batch.picture, self.run(self.average.module, asked)))
        sheet = torch.cat([torch.cat(list(column), dim=-2) for column in columns], dim=-1)
        return to_bytes(sheet.permute(1, 2, 0))
