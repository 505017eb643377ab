"""Every number a user may change, with its default, once; checked when it is built."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError

T = TypeVar("T")


def config_from_mapping(cls: type[T], values: Mapping[str, Any], subject: str = "", table: str = "") -> T:
    """A config dataclass from its JSON or TOML form, read strictly.

    Lists become tuples, whole numbers may stand for decimals, nested tables become nested configs; what is not named
    keeps its default.

    Args:
        subject: the file, for messages.
        table: name of the table inside it, for messages.

    Raises:
        ConfigError: if a key is unknown (the known ones are listed), or a value is of another type or out of range.
    """
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    start = f"{subject}: " if subject else ""
    prefix = f"{table}." if table else ""
    unknown = [key for key in values if key not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {prefix}{near[0]}?" if near else ""
        names = ", ".join(f"{prefix}{key}" for key in unknown)
        raise ConfigError(f"{start}unknown key {names}{hint} (known: {', '.join(known)})")
    hints = get_type_hints(cls)
    ready = {key: _convert(hints[key], value, subject, prefix + key) for key, value in values.items()}
    try:
        return cls(**ready)
    except ConfigError as error:  # of __post_init__, which does not know the file
        raise ConfigError(f"{start}{error}") from error


def _convert(hint: Any, value: Any, subject: str, where: str) -> Any:
    """One value as its field wants it."""
    options = get_args(hint)
    start = f"{subject}: " if subject else ""
    if get_origin(hint) in (Union, UnionType):
        if value is None and type(None) in options:
            return None
        return _convert(next(option for option in options if option is not type(None)), value, subject, where)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        if options[-1] is not Ellipsis and len(value) != len(options):
            raise ConfigError(f"{start}{where} has {len(value)} values; it needs {len(options)}")
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else options
        return tuple(_convert(kind, item, subject, where) for kind, item in zip(kinds, value, strict=True))
    if get_origin(hint) in (dict, Mapping) and isinstance(value, Mapping):
        return {key: _convert(options[1], item, subject, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return config_from_mapping(hint, value, subject, where)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{start}{where} is {value}; it must be a finite number")
        return float(value)
    elif hint in (int, bool, str) and type(value) is hint:
        return value
    elif hint is Path and isinstance(value, str):
        return Path(value)
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint)
    if wanted is None:
        wanted = "a list" if get_origin(hint) is tuple else "a table of settings" if is_dataclass(hint) else str(hint)
    raise ConfigError(f"{start}{where} is {value!r}; it must be {wanted}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Neutral2EmotionConfig:
    """Sizes of `neutral2emotion`; part of its weights."""

    size: int = 128  # pixels, side of the canonical crop as the network sees it
    condition_size: int = 12  # emotion 8, intensity 3, eyelids closed 1
    code_size: int = 64  # numbers the condition is turned into
    widths: tuple[int, ...] = (24, 48, 96, 160, 192)  # channels from full size down
    residual_blocks: int = 2
    head: str = "edit"  # "edit": flow + gain + mask + colour; "rgb": the paper's painted picture
    norm: str = "batch"  # "instance" for training with batch 1

    def __post_init__(self) -> None:
        check_image_net("neutral2emotion", self.size, self.widths, self.head, self.norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementConfig:
    """Sizes of `refinement`; part of its weights."""

    size: int = 160  # pixels, side of `landmarks.LOWER_WINDOW`
    widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    residual_blocks: int = 2
    head: str = "edit"
    norm: str = "batch"

    def __post_init__(self) -> None:
        check_image_net("refinement", self.size, self.widths, self.head, self.norm)


def check_image_net(name: str, size: int, widths: tuple[int, ...], head: str, norm: str) -> None:
    """Refuse sizes that cannot be halved often enough, and unknown heads."""
    step = 2 ** (len(widths) - 1)
    if len(widths) < 2 or min(widths) < 1:
        raise ConfigError(f"{name}.widths is {list(widths)}; give at least two positive numbers")
    if size < step or size % step:
        raise ConfigError(f"{name}.size is {size}; with {len(widths)} levels it must be a multiple of {step}")
    if head not in ("edit", "rgb"):
        raise ConfigError(f"{name}.head is {head!r}; it must be edit or rgb")
    if norm not in ("batch", "instance"):
        raise ConfigError(f"{name}.norm is {norm!r}; it must be batch or instance")


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioConfig:
    """How sound becomes network input. All values are part of the weights: changing one needs new weights."""

    sample_rate: int = 16_000  # Hz
    hop_seconds: float = 0.02  # between two MFCC frames
    window_seconds: float = 0.025  # of sound under one MFCC frame
    context: int = 30  # MFCC frames per window, half before and half after the middle of the video frame
    mel_bands: int = 40
    lowest_hz: float = 100.0  # below lie hum and rumble
    highest_hz: float = 7_600.0
    coefficients: int = 14  # MFCC per frame; as many deltas follow
    floor_db: float = 30.0  # silence lies this far below the utterance's mean spectrum
    silence_dbfs: float = -60.0  # a recording whose loud parts are below this is silent

    def __post_init__(self) -> None:
        if self.context < 2 or self.context % 2:
            raise ConfigError(f"audio.context is {self.context}; it must be even and at least 2")
        lengths = ("hop_seconds", "window_seconds", "lowest_hz", "floor_db")
        for name in ("sample_rate", "mel_bands", "coefficients", *lengths):
            if not getattr(self, name) > 0:
                raise ConfigError(f"audio.{name} is {getattr(self, name)}; it must be above 0")
        if self.coefficients > self.mel_bands:
            raise ConfigError(f"audio.coefficients is {self.coefficients}; there are {self.mel_bands} mel bands")
        limit = self.sample_rate / 2
        if not self.lowest_hz < self.highest_hz <= limit:
            raise ConfigError(f"audio.highest_hz is {self.highest_hz:g}; give {self.lowest_hz:g} to {limit:g}")
        if self.hop_samples < 1 or self.window_samples < 2 * self.mel_bands:
            raise ConfigError(f"audio.window_seconds is {self.window_seconds:g}; short for {self.mel_bands} bands")

    @property
    def hop_samples(self) -> int:
        """Samples between two MFCC frames."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def window_samples(self) -> int:
        """Samples under one MFCC frame."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def features(self) -> int:
        """Numbers per MFCC frame: coefficients, then deltas."""
        return 2 * self.coefficients


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceFinderConfig:
    """Sizes of `facefinder`; part of its weights."""

    widths: tuple[int, ...] = (16, 32, 48, 64)  # channels at 1/2, 1/4, 1/8 and 1/16 of the picture

    def __post_init__(self) -> None:
        if len(self.widths) != 4 or min(self.widths) < 1:
            raise ConfigError(f"facefinder.widths is {list(self.widths)}; give four positive numbers")


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkNetConfig:
    """Sizes of `landmarks`; part of its weights."""

    size: int = 128  # pixels, side of the crop
    points: int = 68
    widths: tuple[int, ...] = (16, 40, 64, 112, 160)  # channels at 1/2 to 1/32 of the crop

    def __post_init__(self) -> None:
        if len(self.widths) != 5 or min(self.widths) < 1:
            raise ConfigError(f"landmarks.widths is {list(self.widths)}; give five positive numbers")
        if self.size < 32 or self.size % 32:
            raise ConfigError(f"landmarks.size is {self.size}; it must be a multiple of 32")
        if self.points < 1:
            raise ConfigError(f"landmarks.points is {self.points}; it must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class Audio2LandmarkConfig:
    """Sizes of `audio2landmark`; part of its weights.

    `recurrent="frames"` reads every window with a small convolution and lets a bidirectional LSTM run over the video
    frames; `recurrent="window"` with 3 layers of 60 is the paper's network, one LSTM over each window on its own.
    """

    fps: float = 25.0  # windows per second, as in the corpus; other frame rates interpolate the motion
    context: int = 30  # MFCC frames per window
    features: int = 28  # 14 coefficients and their deltas
    components: int = 20  # PCA coefficients of the lower face
    recurrent: str = "frames"
    channels: tuple[int, ...] = (64, 96, 96)  # of the window encoder, each level halves the time; unused by "window"
    embedding: int = 160  # numbers a window is turned into; unused by "window"
    layers: int = 2
    units: int = 128  # per layer and direction
    dropout: float = 0.3  # in training only

    def __post_init__(self) -> None:
        if self.recurrent not in ("frames", "window"):
            raise ConfigError(f"audio2landmark.recurrent is {self.recurrent!r}; it must be frames or window")
        for name in ("context", "features", "components", "embedding", "layers", "units"):
            if getattr(self, name) < 1:
                raise ConfigError(f"audio2landmark.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.channels or min(self.channels) < 1:
            raise ConfigError(f"audio2landmark.channels is {list(self.channels)}; give at least one positive number")
        if self.fps <= 0:
            raise ConfigError(f"audio2landmark.fps is {self.fps:g}; it must be positive")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"audio2landmark.dropout is {self.dropout:g}; it must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Sizes of the patch discriminator; used by training only."""

    channels: int = 3  # of the picture, plus those of what it is conditioned on
    width: int = 32  # channels after the first convolution
    levels: int = 3  # halvings
    normalisation: str = "spectral"  # or "instance", as in the paper's code

    def __post_init__(self) -> None:
        for name in ("channels", "width", "levels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"discriminator.{name} is {getattr(self, name)}; it must be at least 1")
        if self.normalisation not in ("spectral", "instance"):
            raise ConfigError(f"discriminator.normalisation is {self.normalisation!r}; it must be spectral or instance")


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """How a run of `generate` works; nothing here is part of any weights."""

    batch: int = 4  # frames that `refinement` computes at once
    half: bool = True  # `refinement` in bfloat16 where the processor computes that faster than float32
    # Pixels of the canonical crop over which an edit fades out: from its left, top, right and bottom border inwards.
    emotion_margins: tuple[float, float, float, float] = (24.0, 24.0, 24.0, 24.0)
    speech_margins: tuple[float, float, float, float] = (10.0, 16.0, 10.0, 24.0)  # the lowest border crosses the throat

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"pipeline.batch is {self.batch}; it must be at least 1")
        for name in ("emotion_margins", "speech_margins"):
            margins = getattr(self, name)
            if len(margins) != 4 or not min(margins) >= 1:
                raise ConfigError(f"pipeline.{name} is {list(margins)}; give four numbers of at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """How recordings become training data; a prepared corpus remembers these and takes no clips made otherwise."""

    fps: float = 25.0  # frames per second of the prepared clips, whatever the recording has
    size: int = 256  # pixels, side of the aligned crops
    quality: int = 90  # of the crops as JPEG, 1 to 100
    most_missing: float = 0.1  # share of frames that may show no face
    most_difference: float = 0.3  # seconds between the end of the sound and the end of the picture
    longest: float = 600.0  # seconds of one clip
    silent: bool = False  # whether clips without sound are taken

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 120:
            raise ConfigError(f"fps is {self.fps:g}; it must be between 1 and 120")
        if not 32 <= self.size <= 2048:
            raise ConfigError(f"size is {self.size}; it must be between 32 and 2048")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality is {self.quality}; it must be between 1 and 100")
        if not 0 <= self.most_missing < 1:
            raise ConfigError(f"most_missing is {self.most_missing:g}; it must be at least 0 and below 1")
        for name in ("most_difference", "longest"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be above 0")
