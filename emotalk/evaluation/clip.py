"""What a video shows and says, as arrays: its landmarks, its sound, and what a mouth should do to that sound."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import audio
from ..errors import AudioError, InputError
from ..face import Face, FaceFinder
from ..landmarks import POINTS
from ..metrics import fixed_crop, opening_track, seen
from ..speech_motion import LOWER_INNER, UPPER_INNER, resample
from ..video import VideoInfo, probe, read_frames
from ..weights import load_network

SILENT_LEVEL = -2.5  # of the level coefficient of `audio.mfcc`: 25 dB below the speech


@dataclass(frozen=True)
class Clip:
    """One video, read once.

    Shape:
        landmarks: (T, 68, 2) pixels; NaN where there is no face.
        boxes:     the face boxes that go with them.
    """

    path: Path
    info: VideoInfo
    fps: float
    landmarks: np.ndarray
    faces: tuple[Face | None, ...]
    waveform: audio.Waveform | None
    sound_problem: str  # why there is no waveform

    @property
    def frames(self) -> int:
        """Number of pictures."""
        return len(self.landmarks)

    @property
    def duration(self) -> float:
        """Seconds of picture."""
        return self.frames / self.fps

    @cached_property
    def crop(self) -> np.ndarray:
        """Transform (2, 3) into the one canonical crop of this video."""
        return fixed_crop(self.landmarks)

    @cached_property
    def opening(self) -> np.ndarray:
        """Distance of the inner lips (T,) in face units."""
        return opening_track(self.landmarks)

    def pictures(self) -> Generator[np.ndarray, None, None]:
        """The frames again, at the clip's rate."""
        return read_frames(self.path, None if self.fps == self.info.fps else self.fps)


def read_clip(
    path: Path,
    finder: FaceFinder,
    fps: float | None = None,
    speech: Path | None = None,
    on_frame: Callable[[], object] | None = None,
) -> Clip:
    """Read a video, its landmarks and its sound; one frame in memory at a time.

    Args:
        fps: read it at this rate; None is its own.
        speech: a file with its sound, if that is not in the video.

    Raises:
        InputError: if it is no video.
        FaceError: if no frame shows a face.
    """
    info = probe(path)
    rate = info.fps if fps is None else fps
    faces: list[Face | None] = []
    for face in finder.track(read_frames(path, None if rate == info.fps else rate)):
        faces.append(face)
        if on_frame is not None:
            on_frame()
    if not any(faces):
        raise InputError(f"{path} shows no face in any of its {len(faces)} frames")
    landmarks = np.stack([np.full((POINTS, 2), np.nan) if face is None else face.landmarks for face in faces])
    assert seen(landmarks).any()
    waveform, problem = None, ""
    if speech is None and not info.has_sound:
        problem = "no sound track"
    else:
        try:
            waveform = audio.read_audio(speech or path)
            if waveform.is_silent:
                waveform, problem = None, "the sound track is silent"
        except AudioError as error:
            problem = str(error)
    return Clip(path, info, rate, landmarks, tuple(faces), waveform, problem)


class Listener:
    """What a mouth should do, from the sound alone; the speech network is loaded when first asked."""

    def __init__(self, weights: str | Path | None = None, *, offline: bool = False) -> None:
        self._weights, self._offline = weights, offline

    @cached_property
    def _network(self) -> object:
        return load_network("audio2landmark", self._weights, offline=self._offline)

    def opening(self, clip: Clip) -> np.ndarray:
        """Predicted opening of the mouth (T,) in face units at the clip's rate.

        Raises:
            WeightsError: if there are no weights for it.
        """
        import torch

        assert clip.waveform is not None
        network = self._network
        own_fps = float(network.config.fps)  # type: ignore[attr-defined]
        windows = audio.mfcc_windows(clip.waveform.samples, own_fps)
        with torch.inference_mode():
            moves = network.displacements(torch.from_numpy(windows)[None])[0].float().numpy()  # type: ignore[attr-defined]
        opening = (moves[:, LOWER_INNER, 1] - moves[:, UPPER_INNER, 1]).mean(1)  # (T,)
        return resample(opening[:, None], own_fps, clip.fps, clip.frames)[:, 0]


def loudness(clip: Clip) -> np.ndarray:
    """Level of the speech around each frame (T,), 0 at its mean, 1 for 10 dB; silence is about -3."""
    assert clip.waveform is not None
    windows = audio.mfcc_windows(clip.waveform.samples, clip.fps)
    level: np.ndarray = windows[:, 13:17, 0].mean(1)  # 80 ms in the middle
    if len(level) < clip.frames:
        level = np.concatenate([level, np.full(clip.frames - len(level), level.min())])
    return level[: clip.frames]
