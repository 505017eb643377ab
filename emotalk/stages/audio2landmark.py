"""Stage `audio2landmark`: speech to lip and jaw motion, learnt from one speaker who is made to sound like many."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import LEVEL_DB, TYPICAL_DEVIATION, window_starts
from ..config import Audio2LandmarkConfig, AudioConfig
from ..errors import ConfigError, EmotalkError, InputError
from ..landmarks import LOWER_POINTS, Basis
from ..nets.audio2landmark import Audio2Landmark
from ..speech_corpus import (
    FPS,
    Clip,
    Item,
    Pool,
    load_clips,
    make_item,
    measure,
    other_voice,
    read_grid,
    save_clips,
)
from ..synth import visemes, voices
from ..training import Stateful, cosine, prefetch, set_learning_rate

SHARD = 50  # items stored in one file
UPPER, LOWER = (30, 31, 32), (36, 35, 34)  # inner lips among the 37 points, pairs top and bottom
CORNERS = (29, 33)
CLOSED = 0.03  # face units; below this opening (2 px of the 256 px crop) lips touch, as tracked
BILABIALS = ("b", "p", "m", "bin", "blue", "by", "place")
JAW_WEIGHT = 0.4
VISEME_COMPONENTS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Audio2LandmarkStageConfig:
    """How the stage trains; `net` is what the weights are."""

    net: Audio2LandmarkConfig = field(default_factory=Audio2LandmarkConfig)
    learning_rate: float = 2e-3  # highest of the schedule
    weight_decay: float = 0.05
    batch: int = 48
    frames: int = 32  # of one training sequence; short, or word orders are learnt by heart (unseen people got worse)
    items: int = 6000  # augmented utterances made once and reused; about five seconds each
    items_per_step: float = 1.2  # how fast training asks for items that are still being made
    feature_noise: float = 0.2  # standard deviation added to the normalised MFCC
    vocal_tract: float = 0.12  # largest logarithm of the extra warp of the spectrum, new in every step
    average: float = 0.995  # per step, of the weights that are exported
    filmed: float = 0.3  # shares of the utterances: filmed clips,
    transcribed: float = 0.25  # recordings of other people whose motion is made from their transcripts,
    synthetic: float = 0.45  # synthetic speech of many voices and languages, motion made from its phonemes
    sentences: int = 1200  # synthetic ones

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch", "frames", "items", "items_per_step"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"audio2landmark.{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.average < 1:
            raise ConfigError(f"audio2landmark.average is {self.average:g}; it must be at least 0 and below 1")


def opening_of(motion: Tensor) -> Tensor:
    """Change of the distance between the inner lips, (..., 37, 2) -> (...,), face units; 0 at rest."""
    return (motion[..., LOWER, 1] - motion[..., UPPER, 1]).mean(-1)


def width_of(motion: Tensor) -> Tensor:
    """Change of the distance between the mouth's corners, (..., 37, 2) -> (...,), face units."""
    return motion[..., CORNERS[1], 0] - motion[..., CORNERS[0], 0]


class Audio2LandmarkStage:
    """Trains `audio2landmark` on a folder laid out like GRID with landmarks (`grid/` inside `data`, or `data` itself).

    Augmented utterances are made by a second process and kept in a folder of `cache`; item `i` is a function of
    (seed, i). Recordings with transcripts are `speech/ljspeech` inside `data`; they are optional.
    """

    name = "audio2landmark"

    def __init__(
        self,
        data: Path,
        config: Audio2LandmarkStageConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        cache: Path | None = None,
    ) -> None:
        self.config = config or Audio2LandmarkStageConfig()
        self.seed, self.device = seed, torch.device(device)
        if cache is None:
            cache = Path(tempfile.mkdtemp(prefix="emotalk-speech-"))
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
        self.shares = (self.config.filmed, self.config.transcribed, self.config.synthetic)
        cache = self.cache = cache / recipe(self.config, seed)
        prepare_corpus(Path(data), cache, self.config.sentences if self.config.synthetic > 0 else 0, seed)
        self.dev = load_clips(cache / "dev.npz")
        train = load_clips(cache / "train.npz")
        motion = np.concatenate([clip.motion[clip.weight > 0] for clip in train])
        torch.manual_seed(seed)
        self.network = Audio2Landmark(self.config.net)
        self.network.set_basis(Basis.fit(motion, self.config.net.components))
        self.network.to(self.device)
        self.average = Audio2Landmark(self.config.net).to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.average.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            self.config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=self.config.weight_decay,
        )
        sample = torch.from_numpy(motion)
        self.point_scale = float(sample.std())
        self.opening_scale = float(opening_of(sample).std())
        self.width_scale = float(width_of(sample).std())
        self.point_weight = torch.ones(LOWER_POINTS, 1)
        self.point_weight[:17] = JAW_WEIGHT
        self.point_weight = self.point_weight.to(self.device)
        self.maker: multiprocessing.process.BaseProcess | None = None
        self._trials: list[tuple[Clip, Tensor, Tensor]] | None = None

    def state(self) -> Mapping[str, Stateful]:
        return {"network": self.network, "average": self.average, "optimizer": self.optimizer}

    def networks(self) -> Mapping[str, tuple[nn.Module, Any]]:
        return {"audio2landmark": (self.average, self.config.net)}

    def set_progress(self, fraction: float) -> None:
        set_learning_rate(self.optimizer, self.config.learning_rate * cosine(fraction))

    def batches(self, start: int) -> Iterator[Any]:
        return prefetch(self._batches(start))

    def _batches(self, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        items: list[Item] = []
        number = start
        while True:
            ready = min(self.config.items, 6 * SHARD + int(number * self.config.items_per_step))
            while len(items) < ready:
                items += self._shard(len(items) // SHARD)
            generator = np.random.default_rng([self.seed, 1, number])
            picked = [items[i] for i in generator.integers(0, min(ready, len(items)), self.config.batch)]
            yield collate([cut(item, self.config.frames, generator) for item in picked], self.config.frames)
            number += 1

    def _shard(self, number: int) -> list[Item]:
        """Items of one stored file; starts the process that makes them if they are missing."""
        path = self.cache / shard_name(self.seed, number)
        while not path.exists():
            if self.maker is None:
                spawn = multiprocessing.get_context("spawn")
                last = -(-self.config.items // SHARD)
                self.maker = spawn.Process(
                    target=make_shards, args=(self.cache, self.seed, last, self.shares), daemon=True
                )
                self.maker.start()
            elif not self.maker.is_alive() and not path.exists():
                raise EmotalkError(f"the process that varies the speech ended with code {self.maker.exitcode}")
            time.sleep(0.2)
        return load_items(path)

    def step(self, batch: tuple[Tensor, Tensor, Tensor]) -> Mapping[str, Tensor]:
        windows, target, weight = (part.to(self.device) for part in batch)
        windows = vary_features(windows, self.config.vocal_tract) + self.config.feature_noise * torch.randn_like(
            windows
        )
        with torch.autocast(windows.device.type, torch.bfloat16):  # nearly halves the time of a step on a CPU
            coefficients = self.network(windows)
        predicted = self.network.decode(coefficients.float())
        terms = self.losses(predicted, target, weight)
        loss = sum(LOSS_WEIGHTS[name] * term for name, term in terms.items())
        assert isinstance(loss, Tensor)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        done = int(self.optimizer.state[next(self.network.parameters())]["step"])
        keep = min(self.config.average, done / (10 + done))  # the first weights are forgotten soon
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return {"loss": loss.detach(), "gradient_norm": norm, **{name: term.detach() for name, term in terms.items()}}

    def losses(self, predicted: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Terms for motion (B, T, 37, 2) with frame weights (B, T).

        Squared error alone shrinks the motion towards its mean where the sound is ambiguous; `correlation` and
        `amplitude` keep the mouth opening's course and size, `closed` the lips that touch.
        """
        total = weight.sum().clamp(min=1)
        error = (predicted - target) * self.point_weight.sqrt() / self.point_scale
        opening, wanted = opening_of(predicted), opening_of(target)
        difference = (opening - wanted) / self.opening_scale
        width = (width_of(predicted) - width_of(target)) / self.width_scale
        still = wanted < CLOSED
        moving = (error[:, 1:] - error[:, :-1]).square().mean((2, 3)) * torch.minimum(weight[:, 1:], weight[:, :-1])
        correlation, amplitude = course(opening, wanted, weight, 0.2 * self.opening_scale)
        return {
            "points": (error.square().mean((2, 3)) * weight).sum() / total,
            "opening": (difference.square() * weight).sum() / total,
            "width": (width.square() * weight).sum() / total,
            "closed": (F.relu(difference + 0.1).square() * still * weight).sum() / total,
            "velocity": moving.sum() / total,
            "correlation": correlation,
            "amplitude": amplitude,
        }

    def validate(self) -> dict[str, float]:
        """Measure dev clips, as recorded and in other voices, and recordings of another person kept from training.

        `score` falls as the opening correlates in all three and as bilabials close.
        """
        if self._trials is None:
            self._trials = [trial(clip, None) for clip in self.dev]
            self._trials += [trial(clip, np.random.default_rng([7, i])) for i, clip in enumerate(self.dev[::3])]
            self._trials += [trial(clip, None) for clip in load_clips(self.cache / "unread.npz")]
        rows = [measure_clip(self.average, *entry) for entry in self._trials]
        ends = len(self.dev), len(self.dev) + len(self.dev[::3])
        groups = {"": rows[: ends[0]], "other_voice_": rows[ends[0] : ends[1]], "other_words_": rows[ends[1] :]}
        result = {}
        for prefix, group in groups.items():
            for key in rows[0] if group else ():
                values = [row[key] for row in group if np.isfinite(row[key])]
                result[prefix + key] = float(np.mean(values)) if values else 0.0
        courses = [result[f"{prefix}correlation"] for prefix, group in groups.items() if group]
        result["score"] = 1.0 - 0.8 * float(np.mean(courses)) - 0.2 * result["bilabials_closed"]
        return result


LOSS_WEIGHTS: Mapping[str, float] = {
    "points": 1.0,
    "opening": 0.5,
    "width": 0.2,
    "closed": 1.0,
    "velocity": 3.0,
    "correlation": 1.0,
    "amplitude": 0.3,
}


@cache
def cepstral_bases(coefficients: int) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal DCT (C, M) of the mel bands, their centres in Hz and on the mel axis, (M,)."""
    audio = AudioConfig()
    bands = torch.arange(audio.mel_bands, dtype=torch.float32)
    order = torch.arange(coefficients, dtype=torch.float32)[:, None]
    dct = torch.cos(math.pi * order * (bands + 0.5) / audio.mel_bands) * math.sqrt(2 / audio.mel_bands)
    dct[0] /= math.sqrt(2)
    hertz = librosa.mel_frequencies(n_mels=audio.mel_bands + 2, fmin=audio.lowest_hz, fmax=audio.highest_hz)[1:-1]
    return dct, torch.from_numpy(hertz).float(), bands


def warp_matrix(factor: float, coefficients: int = 14) -> Tensor:
    """Linear map of normalised MFCC (C,) that moves the spectrum up by `factor`; the level stays."""
    dct, hertz, bands = cepstral_bases(coefficients)
    source = np.interp((hertz / factor).numpy(), hertz.numpy(), bands.numpy())
    low = torch.from_numpy(np.minimum(source.astype(int), len(bands) - 2))
    part = torch.from_numpy(source).float() - low
    move = F.one_hot(low, len(bands)) * (1 - part)[:, None] + F.one_hot(low + 1, len(bands)) * part[:, None]
    scale = torch.tensor([LEVEL_DB * math.sqrt(len(bands)), *TYPICAL_DEVIATION])[:coefficients]
    matrix = (dct @ move @ dct.T) * scale / scale[:, None]
    matrix[0], matrix[0, 0] = 0.0, 1.0
    return matrix


def vary_features(windows: Tensor, vocal_tract: float) -> Tensor:
    """Cheap further voices and microphones, one per sequence: warped spectrum, gain and offset of each coefficient.

    Shape:
        windows: (B, T, context, 28), 14 normalised MFCC then their deltas.
    """
    batch, half = len(windows), windows.shape[-1] // 2
    factors = ((2 * torch.rand(batch) - 1) * vocal_tract).exp().tolist()
    matrices = torch.stack([warp_matrix(factor, half) for factor in factors])
    gain = 1 + 0.1 * torch.randn(batch, half, 1)
    gain[:, 0] = 1
    matrices = (matrices * gain).to(windows)  # (B, 14, 14)
    offset = 0.15 * torch.randn(batch, 1, 1, half)
    offset[..., 0] *= 0.3
    static = torch.einsum("btlc,bdc->btld", windows[..., :half], matrices) + offset.to(windows)
    return torch.cat([static, torch.einsum("btlc,bdc->btld", windows[..., half:], matrices)], -1)


def course(opening: Tensor, wanted: Tensor, weight: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """1 - correlation and the squared logarithm of the ratio of deviations, over sequences that move (B, T)."""
    share = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    a = opening - (opening * share).sum(1, keepdim=True)
    b = wanted - (wanted * share).sum(1, keepdim=True)
    power_a, power_b = (a.square() * share).sum(1), (b.square() * share).sum(1)
    moves = (power_b > least**2).to(a)
    count = moves.sum().clamp(min=1)
    similarity = (a * b * share).sum(1) / ((power_a + 1e-6) * (power_b + 1e-6)).sqrt()
    ratio = 0.5 * ((power_a + 1e-5) / (power_b + 1e-5)).log()
    return ((1 - similarity) * moves).sum() / count, (ratio.square() * moves).sum() / count


def windows_of(item: Item, first: int, frames: int) -> np.ndarray:
    """MFCC windows (frames, 30, 28) float32 of some video frames of an item."""
    starts = window_starts(first + frames, FPS)[first:]
    rows = np.minimum(starts[:, None] + np.arange(30), len(item.rows) - 1)
    return item.rows[rows].astype(np.float32)


def cut(item: Item, frames: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random piece of at most `frames` frames: windows, motion, weight."""
    length = min(frames, len(item.motion))
    first = int(generator.integers(0, len(item.motion) - length + 1))
    piece = slice(first, first + length)
    return windows_of(item, first, length), item.motion[piece], item.weight[piece]


def collate(pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Stack pieces; shorter ones end in frames of weight 0 that repeat the last."""
    columns = []
    for column in range(3):
        rows = []
        for piece in pieces:
            values = piece[column].astype(np.float32)
            missing = frames - len(values)
            filler = np.zeros_like(values[-1:]) if column == 2 else values[-1:]
            rows.append(np.concatenate([values, filler.repeat(missing, 0)]) if missing else values)
        columns.append(torch.from_numpy(np.stack(rows)))
    return columns[0], columns[1], columns[2]


def trial(clip: Clip, generator: np.random.Generator | None) -> tuple[Clip, Tensor, Tensor]:
    """A dev clip, as recorded or in a random other voice, with its windows (1, T, 30, 28) and motion (T, 37, 2)."""
    waveform = clip.samples.astype(np.float32) / 32768
    motion, weight = clip.motion, clip.weight
    if generator is not None:
        before = len(motion)
        waveform, motion, weight = other_voice(waveform, motion, weight, generator)
        scale = len(motion) / before
        words = tuple((start * scale, end * scale, word) for start, end, word in clip.words)
        clip = Clip(clip.name, clip.samples, motion, weight, words)
    item = measure(waveform, motion, weight)
    windows = torch.from_numpy(windows_of(item, 0, len(motion)))[None]
    return clip, windows, torch.from_numpy(motion)


def measure_clip(network: Audio2Landmark, clip: Clip, windows: Tensor, motion: Tensor) -> dict[str, float]:
    """How well the mouth follows one clip; NaN where the clip cannot tell."""
    known = clip.weight > 0
    made = network.displacements(windows.to(network.basis_mean.device))[0].cpu()
    opening, wanted = opening_of(made).numpy(), opening_of(motion).numpy()
    talking = clip.talking
    silent = known & ~talking
    acceleration = np.diff(opening, 2).std() / max(np.diff(wanted, 2).std(), 1e-6)
    lips = made[:, 17:] - motion[:, 17:]
    return {
        "correlation": float(np.corrcoef(opening[known], wanted[known])[0, 1]),
        "amplitude": float(opening[talking].std() / max(wanted[talking].std(), 1e-6)) if talking.any() else np.nan,
        "bilabials_closed": closes(opening, clip.words),
        "opening_in_silence": float(opening[silent].mean()) if silent.any() else np.nan,
        "jitter": float(acceleration),
        "lip_error": float(lips.norm(dim=-1).mean()),
        "jaw_correlation": float(np.corrcoef(made[known, 8, 1], motion[known, 8, 1])[0, 1]),
        "width_correlation": float(np.corrcoef(width_of(made)[known], width_of(motion)[known])[0, 1]),
        "lag": float(best_lag(opening, wanted)),
    }


def closes(opening: np.ndarray, words: Sequence[tuple[float, float, str]], limit: float = CLOSED) -> float:
    """Share of words beginning with b, p or m in whose first frames the lips come together; NaN without such words."""
    hits = []
    for start, _, word in words:
        if word in BILABIALS and word != "m":
            first = max(0, int(start * FPS) - 2)
            hits.append(opening[first : int(start * FPS) + 5].min() < limit)
    return float(np.mean(hits)) if hits else float("nan")


def best_lag(opening: np.ndarray, wanted: np.ndarray, reach: int = 5) -> int:
    """Frames by which `opening` comes late: the shift of best correlation."""
    if opening.std() < 1e-6 or wanted.std() < 1e-6 or len(opening) < 3 * reach:
        return 0
    middle = wanted[reach : len(wanted) - reach]
    scores = [
        np.corrcoef(opening[reach + lag : len(opening) - reach + lag], middle)[0, 1] for lag in range(-reach, reach + 1)
    ]
    return int(np.argmax(scores)) - reach


def recipe(config: Audio2LandmarkStageConfig, seed: int) -> str:
    """Name of the folder for all that is prepared in one way."""
    shares = "-".join(f"{share:g}" for share in (config.filmed, config.transcribed, config.synthetic))
    return f"speech-{shares}-{config.sentences}-{seed}"


def prepare_corpus(data: Path, cache: Path, sentences: int, seed: int) -> None:
    """Read the corpus once and keep it in `cache`, one file per kind of clip.

    train and dev hold the filmed clips; transcribed and synthetic hold speech whose motion is made from its phonemes
    and stay empty without espeak-ng; `unread` holds back every eighth transcribed recording for validation.

    Raises:
        InputError: if `data` does not hold the filmed clips.
    """
    kinds = ("train", "transcribed", "synthetic", "unread", "dev")
    if all((cache / f"{kind}.npz").exists() for kind in kinds):
        return
    clips = read_grid(data / "grid" if (data / "grid").is_dir() else data)
    if not clips["train"] or not clips["dev"]:
        raise InputError(f"{data} needs clips of both splits, train and dev")
    clips |= {"transcribed": [], "synthetic": [], "unread": []}
    if sentences and voices.is_available():
        basis = Basis.fit(np.concatenate([clip.motion[clip.weight > 0] for clip in clips["train"]]), VISEME_COMPONENTS)
        network = visemes.fit_visemes(clips["train"], basis, seed=seed)
        folder = data / "speech" / "ljspeech"
        if (folder / "transcripts.csv").exists():
            read = visemes.read_transcribed(folder, network, basis)
            clips["unread"] = read[7::8]
            clips["transcribed"] = [clip for i, clip in enumerate(read) if i % 8 != 7]
        generator = np.random.default_rng([seed, 2])
        clips["synthetic"] = [visemes.synthetic_clip(network, basis, generator) for _ in range(sentences)]
    cache.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        save_clips(cache / f"{kind}.npz", clips[kind])


def shard_name(seed: int, number: int) -> str:
    return f"items-{seed}-{number:05d}.npz"


def make_shards(cache: Path, seed: int, last: int, shares: Sequence[float]) -> None:
    """Make the stored items 0 to `last * SHARD`; runs in a process of its own, after the trainer in priority."""
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(5)
    kinds = ("train", "transcribed", "synthetic")
    pools = [Pool(load_clips(cache / f"{kind}.npz"), share) for kind, share in zip(kinds, shares, strict=True)]
    babblers = [
        clip.samples.astype(np.float32) / 32768
        for pool in pools
        for clip in pool.clips[:: max(1, len(pool.clips) // 60)]
    ]
    for number in range(last):
        path = cache / shard_name(seed, number)
        if not path.exists():
            indices = range(number * SHARD, (number + 1) * SHARD)
            save_items(path, [make_item(pools, babblers, np.random.default_rng([seed, 0, i])) for i in indices])


def save_items(path: Path, items: Sequence[Item]) -> None:
    """Write items to one file, under a temporary name first."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(
        partial,
        rows=np.concatenate([item.rows for item in items]),
        motion=np.concatenate([item.motion for item in items]),
        weight=np.concatenate([item.weight for item in items]),
        lengths=np.array([(len(item.rows), len(item.motion)) for item in items]),
    )
    partial.replace(path)


def load_items(path: Path) -> list[Item]:
    """Read what `save_items` wrote."""
    with np.load(path, allow_pickle=False) as data:
        rows, motion, weight, lengths = data["rows"], data["motion"], data["weight"], data["lengths"]
    ends = np.cumsum(lengths, 0)
    return [
        Item(rows[e[0] - n[0] : e[0]], motion[e[1] - n[1] : e[1]], weight[e[1] - n[1] : e[1]])
        for n, e in zip(lengths, ends, strict=True)
    ]
