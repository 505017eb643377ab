"""A recording and the talking video made of it, which is made while it is read; several side by side are one, too."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from . import audio
from .errors import AudioError, OutputError
from .layout import side_by_side, tiled_size

Sound = tuple[np.ndarray, int]  # samples (n,) or (n, channels), and their rate in Hz


class Speech:
    """A recording as a file: the sound of the video is that file, untouched. Arrays live in a temporary one."""

    def __init__(self, source: str | Path | Sound) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(source, str | Path):
            self.path = Path(source)
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="emotalk-")
            self.path = Path(self._folder.name) / "speech.wav"
            write_sound(self.path, *source)
        self.waveform = audio.read_audio(self.path)


class Result:
    """A talking video that is made while it is read. Nothing is kept: memory does not grow with the length.

    Args:
        make: makes the frames, from the first on.
        size: width and height in pixels.
        frame_count: how many frames.
        fps: frames per second.
        speech: the sound.
    """

    def __init__(
        self,
        make: Callable[[], Iterator[np.ndarray]],
        size: tuple[int, int],
        frame_count: int,
        fps: float,
        speech: Speech,
    ) -> None:
        self._make = make
        self._speech = speech
        self.size = size
        self.frame_count = frame_count
        self.fps = fps

    @classmethod
    def side_by_side(cls, results: Sequence[Result], labels: Sequence[str]) -> Result:
        """Several results of one length as one labelled video."""

        def make() -> Iterator[np.ndarray]:
            sources = [result.frames() for result in results]
            try:
                for frames in zip(*sources, strict=True):
                    yield side_by_side(frames, labels)
            finally:
                for source in sources:
                    source.close()  # type: ignore[attr-defined]

        first = results[0]
        return cls(make, tiled_size(first.size, len(results)), first.frame_count, first.fps, first._speech)

    @property
    def duration(self) -> float:
        """Seconds of picture."""
        return self.frame_count / self.fps

    def frames(self) -> Iterator[np.ndarray]:
        """The frames from the first on, each (H, W, 3) uint8 RGB; every call starts anew.

        Raises:
            DeviceError: if memory runs out.
        """
        return self._make()

    def save(self, path: str | Path, overwrite: bool = False, on_frame: Callable[[int], object] | None = None) -> Path:
        """Write an mp4 with the speech; the file appears under its name only when it is complete.

        Args:
            path: where to.
            overwrite: replace an existing file.
            on_frame: called after each frame with the number of frames written so far.

        Raises:
            OutputError: if the file exists or cannot be written.
            DeviceError: if memory runs out.
        """
        from .video import VideoWriter

        path = Path(path)
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; give another name or allow overwriting")
        width, height = self.size
        with VideoWriter(path, width, height, self.fps, audio=self._speech.path) as writer:
            for done, frame in enumerate(self.frames(), start=1):
                writer.write(frame)
                if on_frame is not None:
                    on_frame(done)
        return path


def write_sound(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write samples as a wav file that loses nothing.

    Raises:
        AudioError: if there is no sound in the array.
    """
    import soundfile

    array = np.asarray(samples)
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "if":
        raise AudioError(f"the sound is {array.dtype} of shape {array.shape}; expected numbers (n,) or (n, channels)")
    if not rate > 0:
        raise AudioError(f"the sample rate is {rate}; it must be above 0")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    try:
        soundfile.write(path, array, int(rate), subtype="FLOAT" if array.dtype.kind == "f" else None)
    except (RuntimeError, TypeError, ValueError) as error:
        raise AudioError(f"the sound cannot be used: {error}") from None
