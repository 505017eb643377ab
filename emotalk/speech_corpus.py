"""Talking clips for `audio2landmark`: sound, motion of the lower face, and endless variations of both."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import sounds
from .audio import SAMPLE_RATE, mfcc, number_of_frames, read_audio
from .errors import InputError
from .landmarks import FACE_UNIT, LOWER_FACE, LOWER_POINTS, STABLE, TEMPLATE, mouth_opening

FPS = 25.0
FRAME_SAMPLES = round(SAMPLE_RATE / FPS)
ALIGN_SECONDS = 0.06  # standard deviation of the smoothing of head alignment; landmarks jitter, heads do not
TEACHER_LAG = (
    0.4  # frames that GRID's annotation comes late: its tracker smooths over time. Measured on 15 clips against
)
# the same tracker run on single frames: best correlation at 0.25 to 0.5 frames in every clip
SILENCE_WORDS = ("sil", "sp")
MIRROR = np.r_[
    16:-1:-1, [17 + i for i in (6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7)], [29 + i for i in (4, 3, 2, 1, 0, 7, 6, 5)]
]


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance.

    Shape:
        samples: (n,) int16 at 16 kHz.
        motion:  (T, 37, 2) float32 displacement from the resting closed mouth, face units.
        weight:  (T,) float32, 0 where the motion is not known.
        words:   start and end in seconds and the word, in order, silence left out.
    """

    name: str
    samples: np.ndarray
    motion: np.ndarray
    weight: np.ndarray
    words: tuple[tuple[float, float, str], ...]

    @property
    def talking(self) -> np.ndarray:
        """(T,) bool: frames within a word."""
        time = (np.arange(len(self.motion)) + 0.5) / FPS
        inside = np.zeros(len(time), bool)
        for start, end, _ in self.words:
            inside |= (time >= start) & (time < end)
        return inside


def canonical(landmarks: np.ndarray, fps: float = FPS) -> np.ndarray:
    """Landmarks of a clip (T, 68, 2) in the canonical crop, with the head's motion removed and its jitter left out.

    The similarity of `landmarks.crop_transform` per frame, its parameters smoothed over time: what one frame's eye
    corners jitter would otherwise appear as motion of the whole jaw (a third more acceleration on GRID).
    """
    points = landmarks[:, STABLE]
    centre = points.mean(1)
    p, q = points - centre[:, None], TEMPLATE - TEMPLATE.mean(0)
    spread = np.maximum((p**2).sum((1, 2)), 1.0)
    a = (p * q).sum((1, 2)) / spread
    b = (p[..., 0] * q[:, 1] - p[..., 1] * q[:, 0]).sum(1) / spread
    a, b, x, y = (smooth(v, ALIGN_SECONDS * fps) for v in (a, b, centre[:, 0], centre[:, 1]))
    d = landmarks - np.stack([x, y], 1)[:, None]
    a, b = a[:, None], b[:, None]
    return np.stack([a * d[..., 0] - b * d[..., 1], b * d[..., 0] + a * d[..., 1]], -1) + TEMPLATE.mean(0)


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing along the first axis, ends repeated."""
    radius = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate([values[:1].repeat(radius, 0), values, values[-1:].repeat(radius, 0)])
    result: np.ndarray = sum(k * padded[i : i + len(values)] for i, k in enumerate(kernel))  # type: ignore[assignment]
    return result


def resting_motion(landmarks: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Displacement of the lower face from the speaker's own resting closed mouth, symmetric left and right.

    Rest is the mean of the most closed half of the silent frames; where both ends of the clip are silent it moves
    linearly from one to the other, which takes out slow nods. Asymmetry is averaged away: in this corpus it is the
    turning of the head, not the speech.

    Shape:
        landmarks: (T, 68, 2) canonical crop pixels.
        silent:    (T,) bool, frames without speech.
        returns:   (T, 37, 2) face units.
    """
    frames = len(landmarks)
    lower, opening = landmarks[:, LOWER_FACE], mouth_opening(landmarks)
    candidates = np.flatnonzero(silent) if silent.sum() >= 4 else np.arange(frames)
    closed = candidates[opening[candidates] <= np.median(opening[candidates])]
    ends = [group for group in (closed[closed < frames // 2], closed[closed >= frames // 2]) if len(group) >= 3]
    if not ends:
        ends = [closed]
    knots = np.array([group.mean() for group in ends])
    shapes = np.stack([lower[group].mean(0).ravel() for group in ends])
    time = np.arange(frames)
    rest = np.stack([np.interp(time, knots, column) for column in shapes.T], 1).reshape(lower.shape)
    motion = (lower - rest) / FACE_UNIT
    mirrored = motion[:, MIRROR] * np.array([-1.0, 1.0])
    return ((motion + mirrored) / 2).astype(np.float32)


def settle(motion: np.ndarray, talking: np.ndarray, hold: int = 4, fade: int = 5) -> np.ndarray:
    """Bring the mouth to rest in silence: what it does there (breathing, waiting open) cannot be heard."""
    frames = np.arange(len(motion))
    spoken = np.flatnonzero(talking)
    if not len(spoken):
        return np.zeros_like(motion)
    distance = np.abs(frames[:, None] - spoken).min(1)
    factor = np.clip(1 - (distance - hold) / fade, 0, 1)
    return (motion * factor[:, None, None]).astype(np.float32)


def shift_frames(motion: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Cubic (Catmull-Rom) interpolation of motion (T, ...) at fractional frames, ends repeated."""
    last = len(motion) - 1
    base = np.floor(position).astype(int)
    part = (position - base).reshape(-1, *[1] * (motion.ndim - 1))
    a, b, c, d = (motion[np.clip(base + k, 0, last)] for k in (-1, 0, 1, 2))
    cubic = b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)))
    return cubic.astype(np.float32)


def read_grid(folder: Path) -> dict[str, list[Clip]]:
    """Clips of GRID by split ("train", "dev").

    Raises:
        InputError: if the folder does not hold landmarks.npz, alignments.csv, split.csv and clips/.
    """
    for name in ("landmarks.npz", "alignments.csv", "split.csv", "clips"):
        if not (folder / name).exists():
            raise InputError(f"{folder} holds no {name}; it must be laid out as GRID with landmarks")
    words: dict[str, list[tuple[float, float, str]]] = {}
    with (folder / "alignments.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["word"] not in SILENCE_WORDS:
                words.setdefault(row["clip"], []).append((float(row["start_s"]), float(row["end_s"]), row["word"]))
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        split = {row["clip"]: row["split"] for row in csv.DictReader(file)}
    with np.load(folder / "landmarks.npz", allow_pickle=False) as data:
        names, landmarks, valid = data["clips"].tolist(), data["landmarks68"], data["valid"]
    clips: dict[str, list[Clip]] = {"train": [], "dev": []}
    for name, points, known in zip(names, landmarks.astype(np.float64), valid, strict=True):
        if known.sum() < len(known) / 2:
            continue
        sound = read_audio(folder / "clips" / f"{name}.mp4").samples
        samples = np.zeros(len(known) * FRAME_SAMPLES, np.float32)
        samples[: len(sound)] = sound[: len(samples)]
        clips.setdefault(split[name], []).append(
            make_clip(name, samples, points, known, tuple(words.get(name, ())), lag=TEACHER_LAG)
        )
    return clips


def make_clip(
    name: str,
    samples: np.ndarray,
    landmarks: np.ndarray,
    known: np.ndarray,
    words: tuple[tuple[float, float, str], ...],
    *,
    lag: float = 0.0,
) -> Clip:
    """A clip from tracked landmarks (T, 68, 2) in picture pixels; `known` (T,) marks frames with a face."""
    frames = np.arange(len(known))
    good = np.flatnonzero(known)
    filled = landmarks[good[np.abs(frames[:, None] - good).argmin(1)]]
    bare = Clip(name, (np.clip(samples, -1, 1) * 32767).astype(np.int16), filled, known, words)
    talking = bare.talking
    motion = resting_motion(canonical(filled), ~talking)
    motion = settle(shift_frames(motion, frames + lag), talking)
    weight = (known & known[np.minimum(frames + 1, len(known) - 1)]).astype(np.float32)
    return Clip(name, bare.samples, motion, weight, words)


def save_clips(path: Path, clips: Sequence[Clip]) -> None:
    """Write clips to one .npz, under a temporary name first; an empty clip ends the file, so that no list is empty."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    clips = [*clips, Clip("", np.zeros(0, np.int16), np.zeros((0, LOWER_POINTS, 2), np.float32), np.zeros(0), ())]
    np.savez(
        partial,
        names=np.array([clip.name for clip in clips]),
        samples=np.concatenate([clip.samples for clip in clips]),
        motion=np.concatenate([clip.motion for clip in clips]).astype(np.float16),
        weight=np.concatenate([clip.weight for clip in clips]).astype(np.float16),
        lengths=np.array([(len(clip.samples), len(clip.motion), len(clip.words)) for clip in clips]),
        spans=np.array([word[:2] for clip in clips for word in clip.words]).reshape(-1, 2),
        words=np.array([word[2] for clip in clips for word in clip.words], np.str_),
    )
    partial.replace(path)


def load_clips(path: Path) -> list[Clip]:
    """Read what `save_clips` wrote."""
    with np.load(path, allow_pickle=False) as data:
        stored = {key: data[key] for key in data}
    clips = []
    first = np.zeros(3, int)
    for name, length in zip(stored["names"].tolist(), stored["lengths"], strict=True):
        last = first + length
        words = tuple(
            (float(start), float(end), str(word))
            for (start, end), word in zip(
                stored["spans"][first[2] : last[2]], stored["words"][first[2] : last[2]], strict=True
            )
        )
        clips.append(
            Clip(
                name,
                stored["samples"][first[0] : last[0]],
                stored["motion"][first[1] : last[1]].astype(np.float32),
                stored["weight"][first[1] : last[1]].astype(np.float32),
                words,
            )
        )
        first = last
    return clips[:-1]


@dataclass(frozen=True, slots=True)
class Item:
    """One augmented utterance as the network sees it.

    Shape:
        rows:   (context + 2T + context, 28) float16, the output of `audio.mfcc`.
        motion: (T, 37, 2) float16 face units.
        weight: (T,) float16.
    """

    rows: np.ndarray
    motion: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True, slots=True)
class Pool:
    """Clips of one kind and how often they are drawn."""

    clips: Sequence[Clip]
    share: float


def make_item(pools: Sequence[Pool], babblers: Sequence[np.ndarray], generator: np.random.Generator) -> Item:
    """One random utterance: one to three clips in a row, pauses, another voice and tempo, another channel."""
    shares = np.array([pool.share if len(pool.clips) else 0.0 for pool in pools])
    pool = pools[int(generator.choice(len(pools), p=shares / shares.sum()))]
    waveform, motion, weight = join(pool.clips, generator)
    waveform, motion, weight = other_voice(waveform, motion, weight, generator)
    if generator.random() < 0.85:
        waveform = sounds.change_channel(waveform, generator, babblers)
    return measure(waveform, motion, weight)


def measure(waveform: np.ndarray, motion: np.ndarray, weight: np.ndarray) -> Item:
    """Turn sound into MFCC rows."""
    rows = mfcc(waveform)
    return Item(rows.astype(np.float16), motion.astype(np.float16), weight.astype(np.float16))


Piece = tuple[np.ndarray, np.ndarray, np.ndarray]  # sound (n,), motion (T, 37, 2), weight (T,); n = T * FRAME_SAMPLES


def join(clips: Sequence[Clip], generator: np.random.Generator) -> Piece:
    """One to three random clips with their silent ends cut at random and pauses of closed mouth between them."""
    pieces: list[Piece] = []
    if generator.random() < 0.3:
        pieces.append(pause(generator))
    for _ in range(generator.choice([1, 2, 3], p=[0.4, 0.4, 0.2])):
        if len(clips[0].words) > 2 and generator.random() < 0.5:
            pieces.append(mixed_words(clips, generator))
        else:
            clip = clips[int(generator.integers(len(clips)))]
            frames = len(clip.motion)
            first, last = 0, frames
            if clip.words:
                first = int(generator.integers(0, max(1, int(clip.words[0][0] * FPS) - 3)))
                after = min(frames - 1, int(np.ceil(clip.words[-1][1] * FPS)) + 4)
                last = int(generator.integers(after, frames)) + 1
            pieces.append(part(clip, first, last))
        if generator.random() < 0.4:
            pieces.append(pause(generator))
    return chain(pieces, generator)


def part(clip: Clip, first: int, last: int) -> Piece:
    """Frames `first` to `last` of a clip, whole frames only."""
    last = min(last, len(clip.motion), len(clip.samples) // FRAME_SAMPLES)
    samples = clip.samples[first * FRAME_SAMPLES : last * FRAME_SAMPLES].astype(np.float32) / 32768
    return samples, clip.motion[first:last], clip.weight[first:last]


def pause(generator: np.random.Generator) -> Piece:
    """Up to 1.6 s of nearly nothing, mouth closed."""
    frames = int(generator.integers(1, 40))
    level = 10 ** generator.uniform(-5, -3) if generator.random() < 0.7 else 0.0
    hiss = (generator.standard_normal(frames * FRAME_SAMPLES) * level).astype(np.float32)
    return hiss, np.zeros((frames, LOWER_POINTS, 2), np.float32), np.ones(frames, np.float32)


def mixed_words(clips: Sequence[Clip], generator: np.random.Generator) -> Piece:
    """Runs of one to three words from different clips, so that no fixed order of words can be learnt.

    The motion is blended over the seams and counts less there.
    """
    pieces: list[Piece] = [pause(generator)]
    for _ in range(generator.integers(2, 6)):
        clip = clips[int(generator.integers(len(clips)))]
        if not clip.words:
            continue
        first = int(generator.integers(len(clip.words)))
        last = min(len(clip.words), first + int(generator.integers(1, 4))) - 1
        begin, end = round(clip.words[first][0] * FPS), round(clip.words[last][1] * FPS)
        if end > begin:
            pieces.append(part(clip, begin, end))
    pieces.append(pause(generator))
    samples, motion, weight = chain(pieces, generator)
    blended, weight = motion.copy(), weight.copy()
    seam = 0
    for piece in pieces[:-1]:
        seam += len(piece[1])
        near = slice(max(seam - 2, 0), seam + 2)
        blended[near] = smooth(motion[max(seam - 5, 0) : seam + 5], 1.2)[seam - max(seam - 5, 0) - 2 :][
            : len(blended[near])
        ]
        weight[near] *= 0.3
    return samples, blended, weight


def chain(pieces: Sequence[Piece], generator: np.random.Generator) -> Piece:
    """Pieces in a row, each a little louder or softer, faded over 5 ms at its ends."""
    sound = []
    for samples, _, _ in pieces:
        ramp = np.minimum(1, np.arange(len(samples)) / 80)
        sound.append(samples * np.minimum(ramp, ramp[::-1]) * 10 ** generator.uniform(-0.15, 0.15))
    return (
        np.concatenate(sound).astype(np.float32),
        np.concatenate([motion for _, motion, _ in pieces]),
        np.concatenate([weight for _, _, weight in pieces]),
    )


def other_voice(waveform: np.ndarray, motion: np.ndarray, weight: np.ndarray, generator: np.random.Generator) -> Piece:
    """Another speaker: from a deep man to a child, slow to fast; the motion keeps step with the tempo."""
    kind = generator.random()
    if kind < 0.12:
        return waveform, motion, weight
    if kind < 0.3:  # a plain change of tape speed is the cleanest other voice
        pitch = formants = speed = float(np.exp(generator.uniform(np.log(0.82), np.log(1.3))))
    else:
        pitch = float(np.exp(generator.uniform(np.log(0.75), np.log(2.3))))
        formants = float(np.clip(pitch**0.22 * np.exp(generator.normal(0, 0.08)), 0.8, 1.4))
        slow = generator.random() < 0.1
        speed = float(np.exp(generator.uniform(np.log(0.5 if slow else 0.75), np.log(0.8 if slow else 1.35))))
    waveform = sounds.change_voice(waveform, pitch=pitch, formants=formants, speed=speed)
    frames = number_of_frames(len(waveform) / SAMPLE_RATE, FPS)
    position = (np.arange(frames) + 0.5) * speed - 0.5
    nearest = np.clip(np.round(position).astype(int), 0, len(weight) - 1)
    return waveform, shift_frames(motion, position), weight[nearest]
