"""Measure one video, alone and beside its reference; whatever cannot be measured says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import metrics
from ..emotions import EMOTIONS
from ..errors import EmotalkError, InputError, WeightsError
from ..face import FaceAlignment, FaceFinder, cut
from ..image import read_image
from ..landmarks import CROP_SIZE, crop_transform
from .clip import SILENT_LEVEL, Clip, Listener, loudness, read_clip
from .items import Item
from .judge import EmotionJudge

IDENTICAL_DB = 100.0  # what identical frames count in a mean of PSNR
EVERY = 5  # sharpness, background and emotion look at every fifth frame
SHEET_FRAMES = 6  # of a contact sheet
MOST_SOURCES = 4  # photographs kept; large ones take tens of megabytes
SHEET_SIDE = 160  # pixels, longer side

NO_REFERENCE = "needs a reference (--reference)"
NO_SOURCE = "needs the source photograph (--source)"


@dataclass
class Measured:
    """The numbers of one video.

    Attributes:
        missing: metric -> why it has no value.
        curves: named tracks for the plots, all at `fps`.
        sheet: a few small pictures, evenly spaced.
        warnings: what is odd about the file.
        error: why nothing was measured.
    """

    item: Item
    path: Path
    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    sheet: list[np.ndarray] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    fps: float = 0.0

    def put(self, key: str, value: float, why_not: str = "cannot be computed for this video") -> None:
        """Note a value; NaN is a missing one."""
        assert key in metrics.METRICS
        if np.isfinite(value):
            self.values[key] = float(value)
        else:
            self.missing[key] = why_not

    def lack(self, reason: str, *keys: str) -> None:
        """Note why values are missing."""
        for key in keys:
            if key not in self.values:
                self.missing[key] = reason


@dataclass(frozen=True, slots=True)
class Source:
    """The photograph a video was made from."""

    picture: np.ndarray
    landmarks: np.ndarray
    sharpness: float


class Evaluator:
    """Reads and measures videos; keeps photographs and the networks.

    Args:
        landmarks: "auto", "shipped" or "face-alignment".
        weights: of the landmark and speech networks.
        judge: a network that tells emotions, or None.
    """

    def __init__(
        self,
        landmarks: str = "auto",
        weights: str | Path | None = None,
        device: str = "auto",
        offline: bool = False,
        judge: EmotionJudge | None = None,
    ) -> None:
        self._finder = FaceFinder(landmarks, weights, device, offline)
        other = landmarks == "face-alignment" or (landmarks == "auto" and FaceAlignment.ready())
        self.landmarks = "face-alignment" if other else "shipped"
        self._listener = Listener(weights, offline=offline)
        self.judge = judge
        self._sources: dict[Path, Source] = {}
        self._real: dict[tuple[Path, float], tuple[Clip, Measured]] = {}

    def measure(self, item: Item, on_frame: Callable[[], object] | None = None) -> tuple[Measured, Measured | None]:
        """Measure one video, and its reference once; a file that cannot be used becomes an `error`, not an exception.

        Returns:
            the video, and the real one if there is a reference.
        """
        measured = Measured(item, item.video)
        real: Measured | None = None
        try:
            if item.problem:
                raise InputError(item.problem)
            clip = read_clip(item.video, self._finder, speech=item.speech, on_frame=on_frame)
            source = None if item.source is None else self._source(item.source)
            first = self._alone(measured, clip, source, item.source is not None)
            if item.reference is None:
                self._without_reference(measured, source, NO_REFERENCE)
                return measured, None
            real = Measured(replace(item, video=item.reference, reference=None), item.reference)
            try:
                reference, real = self._reference(item, item.reference, clip.fps, on_frame)
            except EmotalkError as error:
                real.error = str(error)
                self._without_reference(measured, source, f"the reference cannot be used: {error}")
                return measured, real
            self._beside(measured, clip, real, reference, source, first)
        except EmotalkError as error:
            measured.error = str(error)
        return measured, real

    def _source(self, path: Path) -> Source:
        if path not in self._sources:
            picture = read_image(path)
            points = self._finder.one(picture, name=str(path)).landmarks
            sharp = metrics.sharpness(cut(picture, crop_transform(points), CROP_SIZE))
            if len(self._sources) >= MOST_SOURCES:
                self._sources.pop(next(iter(self._sources)))
            self._sources[path] = Source(picture, points, sharp)
        return self._sources[path]

    def _reference(
        self, item: Item, path: Path, fps: float, on_frame: Callable[[], object] | None
    ) -> tuple[Clip, Measured]:
        """The real video at the frame rate of the other."""
        key = path, fps
        if key not in self._real:
            clip = read_clip(path, self._finder, fps, on_frame=on_frame)
            measured = Measured(replace(item, video=path, reference=None, speech=None), path)
            source = None if item.source is None else self._source(item.source)
            self._alone(measured, clip, source, item.source is not None)
            self._real[key] = clip, measured
        return self._real[key]

    def _alone(self, measured: Measured, clip: Clip, source: Source | None, has_source: bool) -> np.ndarray:
        """Everything that needs no reference; returns the first frame."""
        info = clip.info
        measured.fps = clip.fps
        measured.facts = {
            "width": info.width, "height": info.height, "fps": info.fps, "frames": clip.frames,
            "duration": round(clip.duration, 3), "read_at_fps": clip.fps,
        }  # fmt: skip
        missing = info.duration - clip.duration
        if missing > max(0.5, 0.1 * info.duration):
            measured.warnings.append(
                f"{clip.duration:.1f} s of picture in {info.duration:.1f} s of file: cut short, or the sound is longer"
            )
        good = metrics.seen(clip.landmarks)
        measured.put("faces", 100 * float(good.mean()))
        measured.put("jitter", 100 * metrics.jitter(clip.landmarks), "needs three frames in a row with a face")
        if source is None:
            measured.lack(NO_SOURCE, "strength")
        else:
            measured.put("strength", 100 * metrics.expression_strength(clip.landmarks, source.landmarks))
        measured.curves["opening"] = clip.opening
        first = self._pictures(measured, clip, source)
        self._sound(measured, clip)
        return first

    def _pictures(self, measured: Measured, clip: Clip, source: Source | None) -> np.ndarray:
        """One more pass over the frames, for what looks at pixels."""
        wanted = set(np.linspace(0, clip.frames - 1, min(SHEET_FRAMES, clip.frames)).round().astype(int).tolist())
        where = metrics.head_mask(clip.info.height, clip.info.width, clip.landmarks)
        original: np.ndarray | None = None
        sharp: list[float] = []
        changed: list[float] = []
        faces: list[np.ndarray] = []
        first: np.ndarray | None = None
        for index, frame in enumerate(clip.pictures()):
            if first is None:
                first = frame
                fits = source is not None and source.picture.shape == frame.shape
                original = source.picture if source is not None and fits else frame
                measured.facts["background_against"] = "source" if fits else "first frame"
                if frame.shape[:2] != where.shape:  # a stream that changes its size
                    where = np.zeros(frame.shape[:2], bool)
            if index in wanted:
                measured.sheet.append(shrink(frame))
            if index % EVERY:
                continue
            sharp.append(metrics.sharpness(cut(frame, clip.crop, CROP_SIZE)))
            if original is not None and frame.shape == original.shape:
                changed.append(metrics.changed_share(frame, original, where))
            face = clip.faces[index] if index < clip.frames else None
            if self.judge is not None and face is not None:
                faces.append(face_picture(frame, face.box))
        assert first is not None
        measured.put("sharpness", float(np.median(sharp)))
        if where.any() and changed:
            measured.put("background", 100 * float(np.mean(changed)))
        else:
            measured.lack("the head fills the picture", "background")
        if self.judge is not None and faces:
            logits = self.judge(faces).mean(0)
            measured.facts["judged_emotion"] = EMOTIONS[int(logits.argmax())].value
        return first

    def _sound(self, measured: Measured, clip: Clip) -> None:
        """Everything that needs the sound."""
        needs = ("sync_correlation", "sync_lag", "energy_correlation", "energy_lag", "drift", "lip_closure")
        if clip.waveform is None:
            measured.lack(clip.sound_problem, *needs, "sound_difference")
            return
        milliseconds = 1000 / clip.fps
        measured.put("sound_difference", clip.duration - clip.waveform.duration)
        level = loudness(clip)
        quiet = level < SILENT_LEVEL
        measured.put("lip_closure", 100 * metrics.closed_share(clip.opening, quiet), "no frame is silent")
        short = f"needs {metrics.LEAST_OVERLAP} frames and a mouth that moves"
        energy = metrics.lag_correlations(clip.opening, level)
        measured.put("energy_correlation", energy[metrics.MOST_LAG], short)
        lag = metrics.best_lag(energy)
        measured.put("energy_lag", np.nan if lag is None else lag * milliseconds, short)
        try:
            expected = self._listener.opening(clip)
        except WeightsError as error:
            measured.lack(str(error), "sync_correlation", "sync_lag", "drift")
            return
        measured.curves["expected"] = expected
        sync = metrics.lag_correlations(clip.opening, expected)
        measured.put("sync_correlation", sync[metrics.MOST_LAG], short)
        lag = metrics.best_lag(sync)
        measured.put("sync_lag", np.nan if lag is None else lag * milliseconds, short)
        if min(clip.duration, clip.waveform.duration) < metrics.DRIFT_SECONDS:
            measured.lack(f"shorter than {metrics.DRIFT_SECONDS:g} s", "drift")
        else:
            change = metrics.drift(clip.opening, expected)
            measured.put("drift", np.nan if change is None else change * milliseconds, short)

    def _without_reference(self, measured: Measured, source: Source | None, reason: str) -> None:
        if source is not None and source.sharpness > 0:
            measured.put("sharpness_ratio", measured.values["sharpness"] / source.sharpness)
        against = [metric.key for metric in metrics.METRICS.values() if metric.group == "against the real video"]
        measured.lack(reason, *against)

    def _beside(
        self, measured: Measured, clip: Clip, real: Measured, reference: Clip, source: Source | None, first: np.ndarray
    ) -> None:
        """Everything that compares with the real video."""
        ours, theirs = metrics.as_fixed_crop(clip.landmarks), metrics.as_fixed_crop(reference.landmarks)
        no_pair = "no frame shows a face in both videos"
        a, b = metrics.shorter(ours, theirs)
        measured.put("m_lmd", metrics.landmark_distance(metrics.mouth(a), metrics.mouth(b)), no_pair)
        measured.put("f_lmd", metrics.landmark_distance(a, b), no_pair)
        measured.put("lvd", metrics.velocity_distance(a, b), no_pair)
        a, b = metrics.scaled(clip.landmarks), metrics.scaled(reference.landmarks)
        measured.put("m_lmd_scaled", 100 * metrics.landmark_distance(metrics.mouth(a), metrics.mouth(b)), no_pair)
        measured.put("f_lmd_scaled", 100 * metrics.landmark_distance(a, b), no_pair)
        measured.put("lvd_scaled", 100 * metrics.velocity_distance(a, b), no_pair)
        measured.put("opening_correlation", metrics.correlation(clip.opening, reference.opening), "a mouth stays still")
        measured.curves["real opening"] = reference.opening
        measured.put("length_difference", clip.duration - reference.duration)
        steady = real.values.get("jitter", 0.0)
        if steady > 0:
            measured.put("jitter_ratio", measured.values.get("jitter", np.nan) / steady)
        original = real.values["sharpness"] if source is None else source.sharpness
        measured.put("sharpness_ratio", measured.values["sharpness"] / original if original > 0 else np.nan)
        measured.lack("the real video does not move", "jitter_ratio")

        same_size = (clip.info.width, clip.info.height) == (reference.info.width, reference.info.height)
        aligned: list[tuple[float, float]] = []
        whole: list[tuple[float, float]] = []
        for picture, other in pairs(clip, reference):
            crops = cut(picture, clip.crop, CROP_SIZE), cut(other, reference.crop, CROP_SIZE)
            aligned.append((min(metrics.psnr(*crops), IDENTICAL_DB), metrics.ssim(*crops)))
            if same_size and picture.shape == other.shape and min(picture.shape[:2]) >= metrics.SSIM_WINDOW:
                whole.append((min(metrics.psnr(picture, other), IDENTICAL_DB), metrics.ssim(picture, other)))
        measured.put("psnr", float(np.mean([p for p, _ in aligned])))
        measured.put("ssim", float(np.mean([s for _, s in aligned])))
        if whole:
            measured.put("psnr_full", float(np.mean([p for p, _ in whole])))
            measured.put("ssim_full", float(np.mean([s for _, s in whole])))
        else:
            sizes = f"{clip.info.width}x{clip.info.height}, {reference.info.width}x{reference.info.height}"
            measured.lack(f"the videos differ in size ({sizes})", "psnr_full", "ssim_full")


def pairs(clip: Clip, reference: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames of both videos side by side in time, up to the end of the shorter."""
    with closing(clip.pictures()) as ours, closing(reference.pictures()) as theirs:
        yield from zip(ours, theirs, strict=False)


def shrink(picture: np.ndarray) -> np.ndarray:
    """A small copy for a contact sheet."""
    height, width = picture.shape[:2]
    scale = min(1.0, SHEET_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def face_picture(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The face box cut out, kept inside the picture."""
    height, width = picture.shape[:2]
    x0, y0 = max(int(box[0]), 0), max(int(box[1]), 0)
    x1, y1 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    inside = picture[y0:y1, x0:x1]
    return inside if inside.size else picture
