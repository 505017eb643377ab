"""Stage `landmarks`: trains `facefinder` and `landmarks` side by side on annotated photographs and clips."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from ..config import FaceFinderConfig, LandmarkNetConfig
from ..errors import ConfigError
from ..face import eye_distance, fine_transform
from ..landmarks import JAW, LEFT_EYE, MOUTH_INNER, MOUTH_OUTER, RIGHT_EYE, invert_transform, transform_points
from ..nets.facefinder import FaceFinder
from ..nets.landmarks import LandmarkNet
from ..training import Stateful, cosine, prefetch, set_learning_rate
from .face_data import FaceData, Sample, place

Batch = dict[str, Tensor]

TILE = 128  # pixels, side of the finder's training pictures
DEV_COUNT = 120  # photographs a validation looks at
# Pairs whose distance shows: inner lips, eyelids.
PAIRS = np.array([[61, 67], [62, 66], [63, 65], [37, 41], [38, 40], [43, 47], [44, 46]])


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarksStageConfig:
    """How the stage trains; `finder` and `net` are what the weights are."""

    finder: FaceFinderConfig = field(default_factory=FaceFinderConfig)
    net: LandmarkNetConfig = field(default_factory=LandmarkNetConfig)
    learning_rate: float = 2e-3  # highest of the schedule
    weight_decay: float = 1e-3
    finder_share: float = 0.6  # of the training, from its start; then the finder rests
    finder_batch: int = 32
    batch: int = 48
    clip_frames: int = 3  # frames taken from each talking clip
    average: float = 0.998  # per step, of the weights that are exported

    def __post_init__(self) -> None:
        for name in ("learning_rate", "finder_batch", "batch"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"landmarks.{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.average < 1:
            raise ConfigError(f"landmarks.average is {self.average:g}; it must be at least 0 and below 1")
        if not 0 < self.finder_share <= 1:
            raise ConfigError(f"landmarks.finder_share is {self.finder_share:g}; it must be above 0, at most 1")
        if self.clip_frames < 1:
            raise ConfigError(f"landmarks.clip_frames is {self.clip_frames}; it must be at least 1")


def point_importance() -> Tensor:
    """Weight of each point in the loss: the lip line decides how a talking face looks, the jaw hardly."""
    weights = torch.ones(68)
    weights[JAW] = 0.6
    weights[LEFT_EYE] = weights[RIGHT_EYE] = 2.0
    weights[MOUTH_OUTER] = 2.0
    weights[MOUTH_INNER] = 3.0
    return weights


class LandmarksStage:
    """Trains `facefinder` and `landmarks` on a folder with faces/ and perhaps grid/. Exported are running means.

    Args:
        data: the folder.
        config: sizes and rates.
        seed: of the first weights, the made-up pictures and their order.
        device: of the networks.
        cache: not used; nothing is prepared beforehand.
    """

    name = "landmarks"

    def __init__(
        self,
        data: Path,
        config: LandmarksStageConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        cache: Path | None = None,
    ) -> None:
        del cache
        self.config = config or LandmarksStageConfig()
        self.seed, self.device = seed, torch.device(device)
        self.data, dev = FaceData.read(Path(data), clip_frames=self.config.clip_frames, seed=seed)
        self.dev = dev[:: max(1, len(dev) // DEV_COUNT)]
        torch.manual_seed(seed)
        self.finder = FaceFinder(self.config.finder).to(self.device)
        self.net = LandmarkNet(self.config.net).to(self.device)
        for network in (self.finder, self.net):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = running_mean(self.config.average)
        self.finder_mean = AveragedModel(self.finder, avg_fn=average, use_buffers=True)
        self.net_mean = AveragedModel(self.net, avg_fn=average, use_buffers=True)
        rate, decay = self.config.learning_rate, self.config.weight_decay
        self.finder_optimizer = torch.optim.AdamW(self.finder.parameters(), rate, weight_decay=decay)
        self.net_optimizer = torch.optim.AdamW(self.net.parameters(), rate, weight_decay=decay)
        self.importance = point_importance().to(self.device)
        self.finder_rests = False

    def state(self) -> Mapping[str, Stateful]:
        return {
            "finder": self.finder,
            "net": self.net,
            "finder_mean": self.finder_mean,
            "net_mean": self.net_mean,
            "finder_optimizer": self.finder_optimizer,
            "net_optimizer": self.net_optimizer,
        }

    def networks(self) -> Mapping[str, tuple[nn.Module, Any]]:
        return {
            "facefinder": (self.finder_mean.module, self.config.finder),
            "landmarks": (self.net_mean.module, self.config.net),
        }

    def batches(self, start: int) -> Iterator[Batch]:
        """Batch i is a function of (seed, i); made in a thread while the networks learn."""
        return prefetch(self.batch(number) for number in itertools.count(start))

    def batch(self, number: int) -> Batch:
        config = self.config
        rng = np.random.default_rng((self.seed, number))
        crops = [self.data.crop(rng, config.net.size) for _ in range(config.batch)]
        batch = {
            "crops": pictures_to_tensor([c[0] for c in crops]),
            "points": torch.from_numpy(np.stack([c[1] for c in crops])).float(),  # (B, 68, 2)
            "weights": torch.from_numpy(np.stack([c[2] for c in crops])).float(),  # (B, 68)
            "faces": torch.tensor([c[3] for c in crops]),  # (B,)
        }
        if not self.finder_rests:
            tiles = [self.data.tile(rng, TILE) for _ in range(config.finder_batch)]
            batch["tiles"] = pictures_to_tensor([t[0] for t in tiles])
            targets = [finder_target(t[1]) for t in tiles]
            batch["heat"] = torch.from_numpy(np.stack([t[0] for t in targets]))  # (B, TILE/8, TILE/8)
            batch["five"] = torch.from_numpy(np.stack([t[1] for t in targets]))  # (B, TILE/8, TILE/8, 5, 2)
        return batch

    def set_progress(self, fraction: float) -> None:
        share = fraction / self.config.finder_share
        self.finder_rests = share >= 1
        set_learning_rate(self.net_optimizer, self.config.learning_rate * cosine(fraction))
        set_learning_rate(self.finder_optimizer, self.config.learning_rate * cosine(min(share, 1.0)))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        batch = {key: value.to(self.device) for key, value in batch.items()}
        terms = self.landmark_terms(batch)
        norm = update(self.net_optimizer, self.net, terms)
        self.net_mean.update_parameters(self.net)
        if "tiles" in batch and not self.finder_rests:
            finder_terms = self.finder_terms(batch)
            update(self.finder_optimizer, self.finder, finder_terms)
            self.finder_mean.update_parameters(self.finder)
            terms |= finder_terms
        return {name: term.detach() for name, term in terms.items()} | {"gradient_norm": norm}

    def landmark_terms(self, batch: Batch) -> dict[str, Tensor]:
        with autocast(self.device):
            output = self.net(picture_range(batch["crops"]))
        unit = 0.2875 * self.config.net.size  # pixels between the eyes in a crop
        weights = batch["weights"] * self.importance  # (B, 68)
        total = weights.sum().clamp_min(1.0)
        error = (output.points - batch["points"]).abs() / unit  # (B, 68, 2)
        wing = (torch.log1p(error / 0.02) + error).mean(-1)  # steep near 0, and never flat far away
        gap = pair_vectors(output.points) - pair_vectors(batch["points"])  # (B, pairs, 2)
        pair_weights = batch["weights"][:, PAIRS[:, 0]] * batch["weights"][:, PAIRS[:, 1]]
        gap_error = torch.log1p(gap.abs() / unit / 0.02).mean(-1)
        maps = map_loss(output.maps, batch["points"])  # (B, 68)
        return {
            "points": (wing * weights).sum() / total,
            "gaps": (gap_error * pair_weights).sum() / pair_weights.sum().clamp_min(1.0),
            "maps": 0.2 * (maps * weights).sum() / total,
            "face": 0.2 * F.binary_cross_entropy_with_logits(output.face, batch["faces"]),
        }

    def finder_terms(self, batch: Batch) -> dict[str, Tensor]:
        with autocast(self.device):
            output = self.finder(picture_range(batch["tiles"]))
        heat = batch["heat"]
        probability = output.score.sigmoid().clamp(1e-4, 1 - 1e-4)
        positive = (heat == 1).float()
        hit = positive * (1 - probability) ** 2 * probability.log()
        miss = (1 - positive) * (1 - heat) ** 4 * probability**2 * (1 - probability).log()
        near = (heat > 0.3).float() * heat
        eyes = (batch["five"][..., 1, :] - batch["five"][..., 0, :]).norm(dim=-1).clamp_min(4.0)  # (B, H, W)
        error = (output.points - batch["five"]).abs().mean((-1, -2)) / eyes
        return {
            "finder_score": -(hit + miss).sum() / positive.sum().clamp_min(1.0),
            "finder_points": (torch.log1p(error / 0.1) * near).sum() / near.sum().clamp_min(1.0),
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean landmark error on people kept out, in parts of the distance between the eyes; 0.04 is 4 %."""
        net = self.net_mean.module.eval()
        size = self.config.net.size
        rng = np.random.default_rng(1)
        errors, mouth = [], []
        for sample in self.dev:
            matrix = fine_transform(sample.landmarks, size)
            matrix, _ = place(rng, matrix, sample.landmarks, size, 8.0, 0.08, rng.normal(0, 0.04, 2) * size)
            points = predict(net, sample, matrix, size, self.device)
            if eye_distance(points) > 2:  # early in training all points may lie together
                points = predict(net, sample, fine_transform(points, size), size, self.device)
            seen = sample.weights == 1
            error = np.linalg.norm(points - sample.landmarks, axis=1) / eye_distance(sample.landmarks)
            errors.append(float(error[seen].mean()))
            mouth.append(float(error[MOUTH_INNER].mean()))
        return {
            "score": float(np.mean(errors)),
            "landmark_error": float(np.mean(errors)),
            "landmark_error_worst": float(np.max(errors)),
            "inner_lip_error": float(np.mean(mouth)),
        }


def predict(net: nn.Module, sample: Sample, matrix: np.ndarray, size: int, device: torch.device) -> np.ndarray:
    """Landmarks of a sample seen through `matrix`: (68, 2) pixels of its largest picture."""
    crop = cv2.warpAffine(
        sample.pictures[0], matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    points = net(picture_range(pictures_to_tensor([crop]).to(device))).points[0]
    return transform_points(invert_transform(matrix), points.cpu().double().numpy())


def running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Averaging rule: an exponential mean that forgets the first weights quickly while it is young."""

    def average(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return (mean + (value - mean) * (1 - kept)).to(mean.dtype)

    return average


def update(optimizer: torch.optim.Optimizer, net: nn.Module, terms: Mapping[str, Tensor]) -> Tensor:
    """One optimizer step on the sum of `terms`, with the gradient's length limited; returns that length."""
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    return norm


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 convolutions over float32 weights: twice as fast, same result here."""
    return torch.autocast(device.type, torch.bfloat16)


def pictures_to_tensor(pictures: list[np.ndarray]) -> Tensor:
    """(B, H, W, 3) uint8 pictures as a (B, 3, H, W) uint8 tensor in channels-last order."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def picture_range(pictures: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return pictures.float().div_(127.5).sub_(1.0)


def pair_vectors(points: Tensor) -> Tensor:
    """Vectors between the points of `PAIRS`: (B, pairs, 2)."""
    return points[:, PAIRS[:, 0]] - points[:, PAIRS[:, 1]]


def map_loss(maps: Tensor, points: Tensor) -> Tensor:
    """Cross entropy between each point's map and a narrow bell around the true point: (B, 68)."""
    side = maps.shape[-1]
    places = torch.arange(side, device=maps.device) * 4.0 + 1.5
    bell_x = torch.exp(-(((places - points[..., :1]) / 4.0) ** 2) / 2)  # (B, 68, side)
    bell_y = torch.exp(-(((places - points[..., 1:]) / 4.0) ** 2) / 2)
    bell_x = bell_x / bell_x.sum(-1, keepdim=True).clamp_min(1e-6)
    bell_y = bell_y / bell_y.sum(-1, keepdim=True).clamp_min(1e-6)
    log = maps.flatten(2).log_softmax(-1).view_as(maps)
    return -(bell_y[..., :, None] * bell_x[..., None, :] * log).sum((-1, -2))


def finder_target(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heat map of face centres, 1 at the cell of a centre, and the five points of the nearest face for each cell.

    Shape:
        faces:   (N, 5, 2) pixels of a tile.
        returns: (TILE/8, TILE/8) float32 and (TILE/8, TILE/8, 5, 2) float32.
    """
    side = TILE // 8
    heat = np.zeros((side, side), np.float32)
    five = np.zeros((side, side, 5, 2), np.float32)
    y, x = np.mgrid[:side, :side] * 8.0 + 3.5
    for points in faces:
        centre = points.mean(0)
        spread = max(4.0, 0.4 * float(np.linalg.norm(points[1] - points[0])))  # pixels
        bell = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * spread**2))
        column, row = (int(np.clip(round((v - 3.5) / 8), 0, side - 1)) for v in centre)
        bell[row, column] = 1.0
        closer = bell > heat
        heat = np.where(closer, bell, heat).astype(np.float32)
        five[closer] = points
    return heat, five
