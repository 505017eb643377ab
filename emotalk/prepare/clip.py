"""The work on one clip: read it, follow the face, align, look for defects, write one file."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from ..audio import SAMPLE_RATE, Waveform, mfcc, read_audio, window_starts
from ..config import AudioConfig, PrepareConfig
from ..corpora import Clip, readable
from ..data import CLIPS
from ..errors import AudioError, EmotalkError, InputError, LandmarkError
from ..face import SMALLEST, cut, eye_distance
from ..files import new_file, output_error
from ..landmarks import CROP_SIZE, FACE_UNIT, STABLE, TEMPLATE, crop_transform, mouth_opening, transform_points
from ..speech_corpus import ALIGN_SECONDS, resting_motion
from ..video import VideoInfo, probe, read_frames

if TYPE_CHECKING:
    from ..face import Face
    from .puppets import PuppetRule

QUARANTINED = "quarantine"
SHORTEST = 0.25  # seconds
SECOND_FACE = 0.5  # size of another face, of the largest one, from which on two people are seen
PEOPLE_EVERY = 2.0  # seconds between the frames that are searched for other people
SILENT_LEVEL = -1.5  # of MFCC coefficient 0: 15 dB below the level of the speech


class Finder(Protocol):
    """What is needed of `face.FaceFinder`."""

    def find(self, image: np.ndarray) -> list[Face]: ...

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[Face | None]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One clip to prepare."""

    clip: Clip
    root: str  # of the corpus
    output: str  # folder of the prepared corpus
    config: PrepareConfig
    landmarks: str  # "shipped" or "face-alignment", with a hash of the weights; part of the fingerprint
    puppet: PuppetRule | None = None  # for clips that are drawn

    @property
    def file(self) -> str:
        """The prepared clip, below the output folder."""
        return f"{CLIPS}/{self.clip.labels.actor}/{self.clip.name}.npz"

    @property
    def note(self) -> str:
        """What is written instead when the clip is bad."""
        return f"{QUARANTINED}/{self.clip.labels.actor}/{self.clip.name}.json"

    def fingerprint(self) -> str:
        """Equal for equal work on equal files: settings, labels, and the size of the files."""
        said = {
            "config": asdict(self.config),
            "landmarks": self.landmarks,
            "clip": asdict(self.clip),
            "puppet": self.puppet and self.puppet.fingerprint(),
            "bytes": [_size(Path(self.root) / name) for name in (self.clip.video, self.clip.sound) if name],
        }
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one clip."""

    name: str
    reason: str  # empty if it was prepared, else a key of `corpora.REASONS`
    detail: str
    frames: int


class Unfit(Exception):
    """A clip that cannot be used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def prepare_clip(task: Task, finder: Finder) -> Outcome:
    """Prepare one clip or note why it is unfit; either way one file appears, whole.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        arrays, facts = read_clip(task, finder)
    except Unfit as unfit:
        return reject(task, unfit.reason, unfit.detail)
    return write_clip(task, arrays, facts)


def write_clip(task: Task, arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> Outcome:
    """Write a clip, whole.

    Raises:
        OutputError: if it cannot be written.
    """
    output = Path(task.output)
    facts["fingerprint"] = task.fingerprint()
    _write_arrays(output / task.file, {"about": np.array(json.dumps(facts, sort_keys=True)), **arrays})
    (output / task.note).unlink(missing_ok=True)
    return Outcome(task.clip.name, "", "", int(facts["frames"]))


def reject(task: Task, reason: str, detail: str) -> Outcome:
    """Note that a clip is unfit."""
    output = Path(task.output)
    detail = " ".join(readable(detail.replace(task.root.rstrip("/") + "/", "")).split())
    said = {
        "clip": task.clip.name, "reason": reason, "detail": detail, "source": readable(task.clip.video),
        "fingerprint": task.fingerprint(),
    }  # fmt: skip
    write_text(output / task.note, json.dumps(said, sort_keys=True) + "\n")
    (output / task.file).unlink(missing_ok=True)
    return Outcome(task.clip.name, reason, detail, 0)


def read_clip(task: Task, finder: Finder) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and facts of one clip.

    Raises:
        Unfit: naming the defect.
    """
    config = task.config
    video = Path(task.root) / task.clip.video
    if _size(video) == 0:
        raise Unfit("empty", "0 bytes")
    try:
        info = probe(video)
    except InputError as error:
        raise Unfit("unreadable", str(error)) from None
    if info.duration > config.longest:
        raise Unfit("too long", f"lasts {_span(info.duration)}; at most {_span(config.longest)} are taken")
    sound, own, notes = _read_sound(task, video, info)
    track = follow(read_frames(video, config.fps), finder, config)
    frames = len(track.valid)
    seconds = frames / config.fps
    heard = sound.duration if sound else 0.0
    late = info.duration - seconds
    if late > max(config.most_difference, 2 / config.fps) and (not own or info.duration - heard > late / 2):
        raise Unfit("truncated", f"the picture ends after {seconds:.2f} s of {info.duration:.2f} s")
    if seconds < SHORTEST or frames < 4:
        raise Unfit("too short", f"lasts {seconds:.2f} s")
    if sound and abs(heard - seconds) > config.most_difference:
        raise Unfit("length", f"the sound lasts {heard:.2f} s, the picture {seconds:.2f} s")
    lost = int((~track.valid).sum())
    if lost > config.most_missing * frames or lost == frames:
        raise Unfit("no face", f"{lost} of {frames} frames ({100 * lost / frames:.0f} %) show no face")
    if track.crowded * 2 > track.searched:
        raise Unfit("two faces", f"{track.crowded} of {track.searched} frames looked at show more than one person")
    face_pixels = float(np.median([eye_distance(points) for points in track.source[track.valid]]))
    if face_pixels < SMALLEST:
        raise Unfit("small face", f"{face_pixels:.0f} pixels between the eyes; at least {SMALLEST:.0f} are needed")

    samples = _fit_length(sound, round(seconds * SAMPLE_RATE)) if sound else np.zeros(0, np.int16)
    features, silent = _features(samples, frames, config.fps)
    landmarks = _interpolate(track.landmarks, track.valid)
    arrays = {
        "landmarks": landmarks.astype(np.float32),
        "source": _interpolate(track.source, track.valid).astype(np.float32),
        "transform": _interpolate(track.transform, track.valid).astype(np.float32),
        "valid": track.valid,
        "opening": (mouth_opening(landmarks) / FACE_UNIT).astype(np.float32),
        "motion": resting_motion(landmarks, silent),
        "mfcc": features,
        "samples": samples,
        "weights": np.zeros((frames, 0), np.float32),
        "offsets": track.offsets,
        "crops": track.crops,
    }
    facts = describe(
        task,
        notes=notes,
        frames=frames,
        valid_frames=frames - lost,
        info=info,
        face_pixels=face_pixels,
        sound_seconds=heard,
        source_sound="" if own or not task.clip.sound else readable(task.clip.sound),
    )
    return arrays, facts


def describe(
    task: Task,
    *,
    notes: list[str],
    frames: int,
    valid_frames: int,
    info: VideoInfo,
    face_pixels: float,
    sound_seconds: float,
    source_sound: str,
) -> dict[str, Any]:
    """The manifest's columns, without the split."""
    labels = task.clip.labels
    return {
        "clip": task.clip.name,
        "file": task.file,
        "corpus": task.clip.corpus,
        "actor": labels.actor,
        "view": labels.view,
        "emotion": labels.emotion.value if labels.emotion else "",
        "intensity": "" if labels.intensity is None else f"{labels.intensity:g}",
        "level": labels.level,
        "sentence": labels.sentence,
        "take": labels.take,
        "frames": frames,
        "valid_frames": valid_frames,
        "fps": f"{task.config.fps:g}",
        "width": info.width,
        "height": info.height,
        "source_fps": f"{info.fps:.6g}",
        "face_pixels": f"{face_pixels:.1f}",
        "picture_seconds": f"{frames / task.config.fps:.3f}",
        "sound_seconds": f"{sound_seconds:.3f}",
        "notes": "; ".join([*labels.notes, *notes]),
        "source": readable(task.clip.video),
        "source_sound": source_sound,
    }


def _read_sound(task: Task, video: Path, info: VideoInfo) -> tuple[Waveform | None, bool, list[str]]:
    """The sound, whether it is the video's own track, and notes."""
    problems = []
    if task.clip.sound:
        try:
            return read_audio(Path(task.root) / task.clip.sound), False, []
        except AudioError as error:
            problems.append(str(error))
    if info.has_sound:
        try:
            notes = ["sound file unreadable, the video's own sound taken"] if problems else []
            return read_audio(video), True, notes
        except AudioError as error:
            problems.append(str(error))
    if task.config.silent:
        return None, False, ["no sound"]
    raise Unfit("no sound", "; ".join(problems) or "no sound track in the video and no sound file beside it")


@dataclass(frozen=True, slots=True)
class Track:
    """A face through a clip.

    Shape:
        landmarks, source: (T, 68, 2); transform: (T, 2, 3); valid: (T,) bool.
        crops:   (bytes,) uint8, JPEG pictures one after the other; offsets: (T + 1,) int64.
    """

    landmarks: np.ndarray
    source: np.ndarray
    transform: np.ndarray
    valid: np.ndarray
    crops: np.ndarray
    offsets: np.ndarray
    searched: int  # frames that were searched for other people
    crowded: int  # those that show any


def follow(frames: Iterable[np.ndarray], finder: Finder, config: PrepareConfig) -> Track:
    """Follow the largest face and cut it out, aligned; only a few frames are held at a time.

    Scale, turn and place of the crops are smoothed over time, as `speech_corpus.canonical` does: what the landmarks
    jitter would else shake the picture.
    """
    waiting: deque[np.ndarray] = deque()
    people = {"searched": 0, "crowded": 0}
    every = max(1, round(PEOPLE_EVERY * config.fps))

    def feed() -> Iterator[np.ndarray]:
        for number, frame in enumerate(frames):
            waiting.append(frame)
            if number % every == every // 4:
                sizes = [face.size for face in finder.find(frame)]  # largest first
                people["searched"] += bool(sizes)
                people["crowded"] += len(sizes) > 1 and sizes[1] > SECOND_FACE * sizes[0]
            yield frame

    sigma = ALIGN_SECONDS * config.fps
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    source: list[np.ndarray | None] = []
    pose: list[np.ndarray] = []  # a, b, centre x, centre y of each frame; NaN without a face
    landmarks: list[np.ndarray] = []
    transform: list[np.ndarray] = []
    packed: list[bytes] = []
    blank = np.full((68, 2), np.nan), np.full((2, 3), np.nan)

    def finish(number: int) -> None:
        """Cut out frame `number`, whose neighbours are known."""
        frame, points = waiting.popleft(), source[number]
        if points is None:
            landmarks.append(blank[0])
            transform.append(blank[1])
            packed.append(b"")
            return
        first = max(number - reach, 0)
        near = np.array(pose[first : number + reach + 1])
        weight = kernel[first - number + reach :][: len(near)] * ~np.isnan(near[:, 0])
        a, b, x, y = (np.nan_to_num(near) * weight[:, None]).sum(0) / weight.sum()
        linear = np.array([[a, -b], [b, a]])
        matrix = np.hstack([linear, (TEMPLATE.mean(0) - linear @ (x, y))[:, None]])
        landmarks.append(transform_points(matrix, points))
        transform.append(matrix)
        crop = cut(frame, matrix * (config.size / CROP_SIZE), config.size)
        done, jpeg = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, config.quality])
        assert done
        packed.append(jpeg.tobytes())

    for face in finder.track(feed()):
        known = _pose(face)
        source.append(None if known is None or face is None else face.landmarks)
        pose.append(np.full(4, np.nan) if known is None else known)
        if len(source) > reach:
            finish(len(source) - reach - 1)
    for number in range(max(len(source) - reach, 0), len(source)):
        finish(number)
    valid = np.array([points is not None for points in source], bool)
    offsets = np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in packed], dtype=np.int64)]).astype(np.int64)
    return Track(
        np.array(landmarks).reshape(-1, 68, 2),
        np.array([blank[0] if points is None else points for points in source]).reshape(-1, 68, 2),
        np.array(transform).reshape(-1, 2, 3),
        valid,
        np.frombuffer(b"".join(packed), np.uint8),
        offsets,
        people["searched"],
        people["crowded"],
    )


def _pose(face: Face | None) -> np.ndarray | None:
    """Scale and turn (a, b) of the canonical crop and the centre of the stable points."""
    if face is None:
        return None
    try:
        matrix = crop_transform(face.landmarks)
    except LandmarkError:
        return None
    return np.array([matrix[0, 0], matrix[1, 0], *face.landmarks[STABLE].mean(0)])


def _interpolate(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Frames that are not valid are interpolated between those that are."""
    if valid.all():
        return values
    known = np.flatnonzero(valid)
    flat = values.reshape(len(values), -1)
    every = np.arange(len(values))
    filled = np.stack([np.interp(every, known, column[known]) for column in flat.T], 1)
    result: np.ndarray = filled.reshape(values.shape)
    return result


def _features(samples: np.ndarray, frames: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """MFCC rows, and the frames (T,) without speech."""
    audio = AudioConfig()
    if len(samples) == 0:
        return np.zeros((0, audio.features), np.float32), np.zeros(frames, bool)
    rows = mfcc(samples.astype(np.float32) / 32768, audio)
    middle = np.minimum(window_starts(frames, fps, audio) + audio.context // 2, len(rows) - 1)
    return rows, rows[middle, 0] < SILENT_LEVEL


def _fit_length(sound: Waveform, count: int) -> np.ndarray:
    """The sound as int16, cut or followed by silence to `count` samples."""
    samples = np.clip(np.round(sound.samples[:count] * 32767), -32768, 32767).astype(np.int16)
    return np.pad(samples, (0, count - len(samples)))


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An archive without compression and without times: equal arrays give equal bytes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from None
    with new_file(path) as part:
        try:
            with part.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise output_error(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from None
    with new_file(path) as part:
        try:
            part.write_bytes(text.encode("utf-8"))
        except OSError as error:
            raise output_error(path, error) from None


def read_about(path: Path) -> dict[str, Any] | None:
    """What a prepared clip says of itself; None if it is not there or damaged."""
    from ..data import ClipReader

    try:
        with ClipReader(path) as clip:
            return clip.about
    except EmotalkError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) if math.isfinite(seconds) and seconds >= 1 else "0 s"
