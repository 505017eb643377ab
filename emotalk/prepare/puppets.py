"""Clips of puppets: photographs moved by a face rig to every emotion while they talk, in the format of real clips."""

from __future__ import annotations

import csv
import hashlib
import random
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..audio import SAMPLE_RATE, mfcc, read_audio
from ..config import AudioConfig, PrepareConfig
from ..corpora import PICTURE_SUFFIXES, Clip, Labels, Rejected, Scan, list_files, slug
from ..emotions import EMOTIONS, Emotion
from ..errors import AudioError, ConfigError, InputError
from ..image import read_image
from ..landmarks import (
    CROP_SIZE,
    FACE_UNIT,
    LOWER_FACE,
    crop_transform,
    invert_transform,
    mouth_opening,
    transform_points,
)
from ..speech_corpus import canonical
from ..synth.corpus import MAX_FIT_ERROR, PuppetMaker, canonical_crop
from ..synth.puppet import Puppet
from ..synth.rig import Rig
from ..synth.speech import speech_shapes
from ..video import VideoInfo
from .clip import Finder, Outcome, Task, Unfit, describe, reject, write_clip

LEVELS = ("1", "2", "3")
CLIP_RATE = 25.0  # of the talking clips' landmarks
SILENT_SECONDS = 3.0  # of a clip that has no speech to follow
SYLLABLE = 0.16  # seconds
BLINK_SECONDS = 0.3
BLINKS_EVERY = 3.5  # seconds, on average


@dataclass(frozen=True, kw_only=True, slots=True)
class PuppetRule:
    """What a puppet corpus is made of.

    `speech` is a folder of talking clips with landmarks (landmarks.npz and clips/, as GRID is kept for training);
    without it the puppets babble and the clips have no sound.
    """

    rig: str
    speech: str | None = None
    takes: int = 1  # sentences per portrait; each is said with every emotion and level
    seed: int = 0

    def __post_init__(self) -> None:
        if self.takes < 1:
            raise ConfigError(f"takes is {self.takes}; it must be 1 or more")

    def fingerprint(self) -> str:
        """Of the rig and the seed."""
        return f"{_digest(self.rig)} {self.seed}"


@lru_cache
def _digest(rig: str) -> str:
    path = Path(rig)
    path = path / "ict_facekit_light.npz" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def scan_portraits(root: Path, rule: PuppetRule) -> Scan:
    """One clip for each portrait, take, emotion and level.

    Raises:
        InputError: if there are no pictures, no rig, or no talking clips where some are promised.
    """
    Rig.load(Path(rule.rig))  # before hours of work
    files = list_files(root)
    pictures = _pictures(root)
    if not pictures:
        raise InputError(f"{root} holds no pictures ({len(files.videos)} videos, {files.others} other files)")
    sentences = _sentences(rule.speech) if rule.speech else ()
    clips = []
    names: dict[str, str] = {}
    rejected = list(files.unreachable)
    for picture in pictures:
        actor = slug(Path(picture).stem)
        if actor in names:
            rejected.append(Rejected(picture, "duplicate", f"the same name as {names[actor]}"))
            continue
        names[actor] = picture
        generator = random.Random(f"{rule.seed} {actor}")
        for take in range(1, rule.takes + 1):
            sentence = generator.choice(sentences) if sentences else "babble"
            for emotion in EMOTIONS:
                for level in ("1",) if emotion is Emotion.NEUTRAL else LEVELS:
                    labels = Labels(
                        actor=actor, emotion=emotion, sentence=sentence, intensity=float(level), level=level,
                        take=str(take), name=f"{actor}_{emotion.value}_{level}_{take:03d}",
                    )  # fmt: skip
                    clips.append(Clip(corpus="puppet", name=labels.name, video=picture, labels=labels))
    clips.sort(key=lambda clip: clip.name)
    return Scan("puppet", root, tuple(clips), tuple(rejected), (), {}, files.others)


def _pictures(root: Path) -> list[str]:
    found = [p for p in root.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")]
    return sorted(p.relative_to(root).as_posix() for p in found if p.is_file())


def _sentences(folder: str) -> tuple[str, ...]:
    """Talking clips whose landmarks are known throughout."""
    path = Path(folder) / "landmarks.npz"
    try:
        with np.load(path, allow_pickle=False) as data:
            valid = data["valid"].all(1)
            names = tuple(sorted(str(name) for name, seen in zip(data["clips"], valid, strict=True) if seen))
    except FileNotFoundError:
        raise InputError(f"no talking clips at {path}; give a folder that holds landmarks.npz and clips/") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no talking clips ({error})") from None
    split = Path(folder) / "split.csv"
    if split.is_file():  # clips kept for development stay out
        with split.open(encoding="utf-8", newline="") as file:
            training = {row["clip"] for row in csv.DictReader(file) if row["split"] == "train"}
        names = tuple(name for name in names if name in training)
    if not names:
        raise InputError(f"{path} holds no usable talking clip")
    return names


def prepare_puppet(task: Task, finder: Finder) -> Outcome:
    """Draw one clip, or note why the portrait is unfit.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        arrays, facts = draw_clip(task, finder)
    except Unfit as unfit:
        return reject(task, unfit.reason, unfit.detail)
    return write_clip(task, arrays, facts)


def draw_clip(task: Task, finder: Finder) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and facts of one clip.

    Raises:
        Unfit: if the portrait shows no face or the rig does not fit it.
    """
    rule, config, labels = task.puppet, task.config, task.clip.labels
    assert rule is not None and labels.emotion is not None and labels.intensity is not None
    maker = _maker(rule.rig)
    portrait = _portrait(str(Path(task.root) / task.clip.video), rule.rig, finder)  # type: ignore[arg-type]
    puppet = portrait.puppet
    random_ = np.random.default_rng(int(hashlib.sha256(f"{rule.seed} {task.clip.name}".encode()).hexdigest()[:15], 16))
    mouths, samples = _speech(rule, labels.sentence, maker, config, random_)
    frames = len(mouths)
    blinks = _blinks(frames, config.fps, random_)
    start = puppet.pose(None)
    weights, packed, points, motion = [], [], [], []
    for mouth, blink in zip(mouths, blinks, strict=True):
        felt = maker.feeling(puppet, labels.emotion, labels.intensity, float(blink))
        shape = maker.talking(felt, mouth)
        pose, rest = puppet.pose(shape), puppet.pose(maker.talking(felt, np.zeros_like(mouth)))
        move = puppet.move(start, pose)
        picture = move.apply(puppet.image)
        if config.size != CROP_SIZE:
            picture = cv2.resize(picture, (config.size, config.size), interpolation=cv2.INTER_AREA)
        packed.append(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, config.quality])[1].tobytes())
        shown = puppet.points68(pose)
        points.append(shown)
        motion.append((shown - puppet.points68(rest))[LOWER_FACE] / FACE_UNIT)
        weights.append(shape)
    landmarks = np.array(points)
    feeling = maker.feeling(puppet, labels.emotion, labels.intensity)
    audio = AudioConfig()
    arrays = {
        "landmarks": landmarks.astype(np.float32),
        "source": transform_points(invert_transform(portrait.transform), landmarks).astype(np.float32),
        "transform": np.repeat(portrait.transform[None], frames, 0).astype(np.float32),
        "valid": np.ones(frames, bool),
        "opening": (mouth_opening(landmarks) / FACE_UNIT).astype(np.float32),
        "motion": np.array(motion, np.float32),
        "mfcc": mfcc(samples.astype(np.float32) / 32768) if len(samples) else np.zeros((0, audio.features), np.float32),
        "samples": samples,
        "weights": np.array(weights, np.float32),
        "offsets": np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in packed])]).astype(np.int64),
        "crops": np.frombuffer(b"".join(packed), np.uint8),
    }
    facts = describe(
        task,
        notes=["synthetic"],
        frames=frames,
        valid_frames=frames,
        info=VideoInfo(portrait.width, portrait.height, config.fps, frames / config.fps, len(samples) > 0),
        face_pixels=portrait.face_pixels,
        sound_seconds=len(samples) / SAMPLE_RATE,
        source_sound=labels.sentence if len(samples) else "",
    )
    facts["weight_names"] = list(maker.rig.names)
    facts["weights"] = {name: f"{value:.4f}" for name, value in zip(maker.rig.names, feeling.tolist(), strict=True)}
    return arrays, facts


@dataclass(frozen=True, slots=True)
class Portrait:
    """A photograph with the rig fitted to it."""

    puppet: Puppet
    transform: np.ndarray
    width: int
    height: int
    face_pixels: float


@lru_cache(maxsize=1)
def _maker(rig: str) -> PuppetMaker:
    loaded = Rig.load(Path(rig))
    return PuppetMaker(loaded, np.zeros((1, len(loaded.names)), np.float32))


@lru_cache(maxsize=2)  # the clips of a portrait are neighbours
def _portrait(path: str, rig: str, finder: Finder) -> Portrait:
    try:
        image = read_image(path)
    except InputError as error:
        raise Unfit("unreadable", str(error)) from None
    faces = finder.find(image)
    if not faces:
        raise Unfit("no face", "the portrait shows no face")
    crop, points, _ = canonical_crop(image, faces[0].landmarks)
    puppet = Puppet(_maker(rig).rig, crop, points)
    if puppet.fit.error > MAX_FIT_ERROR:
        raise Unfit("rig", f"the face rig is {puppet.fit.error:.3f} of the head's width away from the landmarks")
    matrix = crop_transform(faces[0].landmarks)
    return Portrait(puppet, matrix, image.shape[1], image.shape[0], faces[0].size)


@lru_cache(maxsize=1)
def _landmarks(folder: str) -> dict[str, np.ndarray]:
    with np.load(Path(folder) / "landmarks.npz", allow_pickle=False) as data:
        return {str(name): points for name, points in zip(data["clips"], data["landmarks68"], strict=True)}


@lru_cache(maxsize=4)
def _mouths(folder: str, sentence: str, rig: str) -> np.ndarray:
    """Mouth shapes (T, E) of a talking clip, at its own rate."""
    aligned = canonical(_landmarks(folder)[sentence].astype(np.float64), CLIP_RATE) / FACE_UNIT
    opening = mouth_opening(aligned)
    rest = aligned[opening <= np.quantile(opening, 0.15)].mean(0)
    return speech_shapes(_maker(rig).rig, (aligned - rest)[:, LOWER_FACE])


def _speech(
    rule: PuppetRule, sentence: str, maker: PuppetMaker, config: PrepareConfig, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mouth shapes (T, E) at the wanted rate, and the sound as int16, empty if there is none."""
    if rule.speech is None:
        return _babble(maker, config.fps, generator), np.zeros(0, np.int16)
    shapes = _mouths(rule.speech, sentence, rule.rig)
    frames = round(len(shapes) / CLIP_RATE * config.fps)
    position = np.clip((np.arange(frames) + 0.5) / config.fps * CLIP_RATE - 0.5, 0, len(shapes) - 1)
    low = np.floor(position).astype(int)
    part = (position - low)[:, None]
    mouths = shapes[low] * (1 - part) + shapes[np.minimum(low + 1, len(shapes) - 1)] * part
    files = sorted((Path(rule.speech) / "clips").glob(f"{sentence}.*"))
    try:
        sound = read_audio(files[0]).samples
    except (AudioError, IndexError):
        raise Unfit("no sound", f"the talking clip {sentence} has no sound") from None
    count = round(frames / config.fps * SAMPLE_RATE)
    samples = np.clip(np.round(sound[:count] * 32767), -32768, 32767).astype(np.int16)
    return mouths.astype(np.float32), np.pad(samples, (0, count - len(samples)))


def _babble(maker: PuppetMaker, fps: float, generator: np.random.Generator) -> np.ndarray:
    """Visemes at the pace of syllables, closed at both ends."""
    count = round(SILENT_SECONDS / SYLLABLE)
    shapes = maker.visemes[generator.integers(len(maker.visemes), size=count)] * generator.uniform(0.2, 1, (count, 1))
    shapes[::2] *= 0.4
    shapes[[0, 1, -2, -1]] = 0
    time = np.arange(round(SILENT_SECONDS * fps)) / fps
    knots = (np.arange(count) + 0.5) * SYLLABLE
    return np.stack([np.interp(time, knots, column) for column in shapes.T], 1).astype(np.float32)


def _blinks(frames: int, fps: float, generator: np.random.Generator) -> np.ndarray:
    """How far the lids are closed (T,), in short blinks at random times."""
    time = np.arange(frames) / fps
    closed: np.ndarray = np.zeros(frames)
    at = float(generator.exponential(BLINKS_EVERY))
    while at < frames / fps:
        closed = np.maximum(closed, np.clip(1 - np.abs(time - at) / (BLINK_SECONDS / 2), 0, 1))
        at += 1 + float(generator.exponential(BLINKS_EVERY))
    return closed
