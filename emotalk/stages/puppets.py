"""What the two image stages share: rows of the puppet corpus as batches, augmentation, the loss of an edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..config import DiscriminatorConfig
from ..errors import InputError
from ..losses import Adversary, FlowLoss, MaskLoss, ReconstructionLoss
from ..nets.discriminator import PatchDiscriminator
from ..nets.edit import Edit, apply_edit
from ..synth.corpus import PuppetCorpus
from ..training import cosine, set_learning_rate
from .split import is_dev

MOVING = 4.0  # extra weight of pixels that move, per pixel of motion, up to two
COLOUR_CHANCE = 5.0  # how much more often a colour photograph is drawn than a grey one
AVERAGE_STEPS = 200  # of the running average of the weights; shorter at first, when they change fast


class Sample(NamedTuple):
    """One pair, float32: network inputs, then the truth. Pictures are in [0, 1], (H, W, C)."""

    picture: np.ndarray
    lines: tuple[np.ndarray, ...]
    flow: np.ndarray
    gain: np.ndarray
    mask: np.ndarray
    colour: np.ndarray
    inside: np.ndarray
    condition: np.ndarray | None


class Batch(NamedTuple):
    """Samples as tensors, pictures in [-1, 1], channels first."""

    picture: Tensor
    lines: Tensor  # (B, number of line images, H, W)
    truth: Edit
    weight: Tensor  # (B, 1, H, W): 0 outside the photograph
    condition: Tensor | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EditWeights:
    """Weights of the terms of an edit stage."""

    flow: float = 1.0
    gain: float = 4.0
    mask: float = 1.0
    colour: float = 2.0
    reconstruction: float = 6.0
    detail: float = 4.0
    adversarial: float = 0.0


def rows_of(corpus: PuppetCorpus, *, dev: bool) -> np.ndarray:
    """Row numbers of the finished photographs on one side of the split."""
    chosen = [k for k in corpus.finished if is_dev(corpus.photos[k].file) == dev]
    per_face = corpus.config.per_face
    return (np.array(chosen, np.int64)[:, None] * per_face + np.arange(per_face)).ravel()


def augment(sample: Sample, rng: np.random.Generator, *, mirror: bool) -> Sample:
    """Other light, skin, camera and side, without touching what is true about the motion.

    Light and skin are multiplied and raised to a power, the two changes under which gain stays a gain.
    """
    picture, colour, gain = sample.picture, sample.colour, sample.gain
    if rng.random() < 0.12:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        picture, colour = ((p @ weights)[..., None].repeat(3, axis=2) for p in (picture, colour))
    power = np.float32(np.exp(rng.normal(0, 0.28)))
    cast = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.09, 3))
    if rng.random() < 0.35:
        cast = cast * np.array([1.12, 0.98, 0.86])
    picture, colour = (np.minimum(np.maximum(p, 1e-4) ** power * cast.astype(np.float32), 1) for p in (picture, colour))
    gain = gain**power
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(0.005, 0.03), picture.shape).astype(np.float32)
    sample = sample._replace(picture=np.clip(picture, 0, 1), colour=colour, gain=gain)
    if mirror and rng.random() < 0.5:
        flipped = {
            name: np.ascontiguousarray(getattr(sample, name)[:, ::-1])
            for name in ("picture", "flow", "gain", "mask", "colour", "inside")
        }
        flipped["flow"] = flipped["flow"] * np.array([-1, 1], np.float32)
        lines = tuple(np.ascontiguousarray(line[:, ::-1]) for line in sample.lines)
        sample = sample._replace(lines=lines, **flipped)
    return sample


def collate(samples: list[Sample], device: torch.device) -> Batch:
    """Stack samples into one batch on the device."""

    def images(arrays: list[np.ndarray]) -> Tensor:
        stacked = np.stack([a if a.ndim == 3 else a[..., None] for a in arrays]).astype(np.float32)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)

    truth = Edit(
        images([s.flow for s in samples]),
        images([s.gain for s in samples]),
        images([s.mask for s in samples]),
        images([s.colour for s in samples]) * 2 - 1,
    )
    conditions = [s.condition for s in samples if s.condition is not None]
    return Batch(
        images([s.picture for s in samples]) * 2 - 1,
        images([np.stack(s.lines, axis=2) for s in samples]),
        truth,
        images([s.inside for s in samples]),
        torch.from_numpy(np.stack(conditions)).to(device) if conditions else None,
    )


class EditLoss(nn.Module):
    """The terms that supervise an edit with the truth of the puppet, and the picture it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.flow, self.mask, self.reconstruction = FlowLoss(), MaskLoss(), ReconstructionLoss()

    def forward(self, edit: Edit, batch: Batch) -> dict[str, Tensor]:
        truth = batch.truth
        length = truth.flow.norm(dim=1, keepdim=True)
        skin = batch.weight * (1 - truth.mask)
        moving = skin * (1 + MOVING * length.clamp(max=2))
        made, wanted = apply_edit(batch.picture, edit), apply_edit(batch.picture, truth)
        return {
            "flow": self.flow(edit.flow, truth.flow, moving),
            "gain": self.reconstruction(edit.gain, truth.gain, moving),
            "mask": self.mask(edit.mask, truth.mask, batch.weight * (1 + 8 * truth.mask)),
            "colour": self.reconstruction(edit.colour, truth.colour, truth.mask + 1e-3),
            "reconstruction": self.reconstruction(
                made, wanted, batch.weight * (1 + 3 * truth.mask + length.clamp(max=3))
            ),
            "detail": self.detail(made, wanted, batch.weight * (0.1 + truth.mask)),
        }

    def detail(self, made: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """Difference of the edges of two pictures: keeps teeth apart from tongue where a mean would blur them."""
        across = torch.minimum(weight[..., 1:], weight[..., :-1])  # both neighbours count, or neither
        down = torch.minimum(weight[..., 1:, :], weight[..., :-1, :])
        beside = self.reconstruction(made.diff(dim=-1), wanted.diff(dim=-1), across)
        return beside + self.reconstruction(made.diff(dim=-2), wanted.diff(dim=-2), down)


class EditStage:
    """One network with an edit head, its average over time, optimizer and loss.

    Subclasses read rows and call the network.

    Raises:
        InputError: if no photograph of the corpus is left to train on, or none to check on.
    """

    name: str
    mirror = True
    line_images = 1
    judged_part = (slice(64, 112), slice(28, 100))  # rows and columns around the mouth

    def __init__(
        self,
        net: nn.Module,
        corpus: PuppetCorpus,
        weights: EditWeights,
        *,
        batch: int,
        learning_rate: float,
        device: torch.device,
        seed: int,
    ) -> None:
        cv2.setNumThreads(1)
        self.device, self.seed, self.batch = device, seed, batch
        self.learning_rate, self.weights = learning_rate, weights
        self.corpus = corpus
        self.net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.net, multi_avg_fn=_running_average, use_buffers=True)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=learning_rate, weight_decay=1e-2)
        self.loss = EditLoss()
        self.adversary = self._adversary() if weights.adversarial else None
        self.train_rows, self.dev_rows = rows_of(corpus, dev=False), rows_of(corpus, dev=True)
        for rows, side in ((self.train_rows, "to train on"), (self.dev_rows, "to check on")):
            if not len(rows):
                raise InputError(f"{len(corpus.finished)} usable photographs in {corpus.folder}: none left {side}")

    @cached_property
    def chances(self) -> np.ndarray:
        """How often each train row is drawn, summing to 1; colour is rare, and only it shows what teeth look like."""
        grey = np.array([self.corpus.photos[row // self.corpus.config.per_face].grey for row in self.train_rows])
        chances = np.where(grey, 1.0, COLOUR_CHANCE)
        return chances / chances.sum()

    def read(self, row: int, rng: np.random.Generator | None) -> Sample:
        """One row of the corpus; with `rng` its landmarks are shaken as a detector would."""
        raise NotImplementedError

    def run(self, net: nn.Module, batch: Batch) -> Edit:
        """Call the network on a batch."""
        raise NotImplementedError

    def state(self) -> Mapping[str, Any]:
        parts = {"net": self.net, "average": self.average, "optimizer": self.optimizer}
        return parts | ({"adversary": self.adversary} if self.adversary else {})

    def _adversary(self) -> Adversary:
        config = DiscriminatorConfig(channels=3 + self.line_images, width=24, levels=2)
        judge = PatchDiscriminator(config).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Adversary(judge, torch.optim.Adam(judge.parameters(), self.learning_rate / 2, betas=(0.5, 0.999)))

    def judged(self, picture: Tensor, batch: Batch) -> Tensor:
        """What the adversary sees: the part of a picture around the mouth, with the lines it was made for."""
        rows, columns = self.judged_part
        return torch.cat([picture, batch.lines * 2 - 1], dim=1)[:, :, rows, columns]

    def networks(self) -> Mapping[str, tuple[nn.Module, Any]]:
        return {self.name: (self.average.module, self.net.config)}

    def set_progress(self, fraction: float) -> None:
        set_learning_rate(self.optimizer, self.learning_rate * cosine(fraction))

    def batches(self, start: int) -> Iterator[Batch]:
        number = start
        while True:
            rng = np.random.default_rng([self.seed, number])
            rows = rng.choice(self.train_rows, self.batch, p=self.chances)
            yield collate([self._drawn(int(row), rng) for row in rows], self.device)
            number += 1

    def _drawn(self, row: int, rng: np.random.Generator) -> Sample:
        sample = self.read(row, rng)
        return augment(sample, rng, mirror=self.mirror and self.may_mirror(sample))

    def may_mirror(self, sample: Sample) -> bool:
        """Whether the other side of this sample is also true."""
        return True

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            edit = self.run(self.net, batch)
        terms = self.loss(edit, batch)
        played = {}
        if self.adversary is not None:
            made, wanted = (self.judged(apply_edit(batch.picture, e), batch) for e in (edit, batch.truth))
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                played["discriminator"] = self.adversary.discriminate(wanted, made)
                terms["adversarial"] = self.adversary.generator(made)
        total = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.net)
        return (
            {name: term.detach() for name, term in terms.items()}
            | played
            | {"total": total.detach(), "gradient_norm": norm}
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        rows = self.dev_rows[:: max(1, len(self.dev_rows) // 320)]
        sums: dict[str, float] = {}
        count = 0
        for first in range(0, len(rows), self.batch):
            batch = collate([self.read(int(r), None) for r in rows[first : first + self.batch]], self.device)
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                edit = self.run(self.average.module, batch)
            terms = self.loss(edit, batch)
            still = self.loss.flow(torch.zeros_like(edit.flow), batch.truth.flow, batch.weight * (1 - batch.truth.mask))
            moved = self.loss.flow(edit.flow, batch.truth.flow, batch.weight * (1 - batch.truth.mask))
            terms |= {"flow_error": moved, "flow_still": still}
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(batch.picture)
            count += len(batch.picture)
        means = {name: value / max(count, 1) for name, value in sums.items()}
        means["score"] = sum(getattr(self.weights, name, 0.0) * value for name, value in means.items())
        return means

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """Dev pairs: input, truth, network."""
        rows = self.dev_rows[:: max(1, len(self.dev_rows) // 16)][:16]
        batch = collate([self.read(int(r), None) for r in rows], self.device)
        edit = self.run(self.average.module, batch)
        columns = [batch.picture, apply_edit(batch.picture, batch.truth), apply_edit(batch.picture, edit)]
        sheet = torch.cat([torch.cat(list(c), dim=-1) for c in columns], dim=-2)
        return to_bytes(sheet.permute(1, 2, 0))


@torch.no_grad()
def _running_average(average: Any, current: Any, count: Tensor | int) -> None:
    """Exponential average over `AVERAGE_STEPS`, over a third of all steps as long as those are fewer."""
    keep = 1 - 1 / min(AVERAGE_STEPS, 1 + float(count) / 3)
    for kept, new in zip(average, current, strict=True):
        kept.copy_(keep * kept + (1 - keep) * new if kept.is_floating_point() else new)


def to_bytes(picture: Tensor) -> np.ndarray:
    """[-1, 1] -> uint8."""
    return ((picture.float().clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8).cpu().numpy()


def shaken(points: np.ndarray, rng: np.random.Generator | None, shift: float, each: float) -> np.ndarray:
    """Landmarks as an imperfect detector gives them: moved together by `shift` and one by one by `each` pixels."""
    if rng is None:
        return points
    return points + rng.normal(0, shift, 2) + rng.normal(0, each, points.shape)  # type: ignore[no-any-return]
