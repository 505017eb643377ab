"""Probe videos, iterate over their frames, and write frames with sound.

All three call the ffmpeg program of imageio-ffmpeg, the one moviepy calls too. moviepy's own classes do not serve here
(2.2): its reader repeats frames where a file ends early, its writer rounds the frame rate to two decimals and takes a
failed ffmpeg for a success, its parser misses the rotation of telephone videos as ffmpeg 9 writes it.

Frames are uint8 RGB (H, W, 3) and pass one by one: an hour needs no more memory than a second.
"""

from __future__ import annotations

import errno
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from .errors import ConfigError, InputError, OutputError
from .files import check_readable, new_file, output_error

PRESET = "veryfast"
QUALITY = 18  # constant rate factor of x264; visually lossless
AAC_FRAME = 1024  # samples in one packet of AAC, the smallest piece that can be cut without decoding
COMMENT = "Synthetic video: this face was animated by emotalk; the person did not say or feel this."
LOCAL_FILES = ("-protocol_whitelist", "file")  # a playlist must not make ffmpeg fetch from the network
BT709 = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv")


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video file says about itself."""

    width: int  # pixels, as shown: rotation applied
    height: int
    fps: float
    duration: float  # seconds, of the longer of picture and sound
    has_sound: bool


def probe(path: str | Path) -> VideoInfo:
    """Size, frame rate and duration of a video.

    Raises:
        InputError: if the file is missing, unreadable or not a video.
    """
    path = Path(path)
    with closing(read_frames(path)) as frames:
        height, width, _ = next(frames).shape  # the decoder knows best, also about rotation
    text = _listing(path)
    rate = re.search(r"Video: .*?([\d.]+) (?:fps|tbr)", text)
    if rate is None or not 0 < float(rate[1]) < 1000:
        raise InputError(f"{path} has no frame rate; convert it to mp4")
    fps = _exact_rate(float(rate[1]))
    duration = _duration(text)
    if duration is None:  # a recording cut off by force, or a stream that was saved
        duration = sum(1 for _ in read_frames(path)) / fps
    return VideoInfo(width, height, fps, duration, has_sound=" Audio: " in text)


def read_frames(path: str | Path, fps: float | None = None) -> Generator[np.ndarray, None, None]:
    """Frames of a video in order, upright; with `fps`, frames are repeated or left out to reach that rate.

    A damaged file gives the frames that can be decoded.

    Shape:
        yields: (H, W, 3) uint8 RGB; every frame is an array of its own.

    Raises:
        InputError: if the file is missing, unreadable, or holds no frame that can be decoded.
    """
    path = Path(path)
    check_readable(path, InputError, "video")
    rate = [] if fps is None else ["-vf", f"fps={_rate(fps)}"]
    # Each frame comes as a PPM picture, whose header says its size: nothing has to be known in advance.
    command = [*_ffmpeg(), *LOCAL_FILES, "-i", f"file:{path}", "-map", "0:v:0", *rate, "-fps_mode", "passthrough"]
    command += ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"]
    count = 0
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            while (frame := _read_ppm(process.stdout)) is not None:
                count += 1
                yield frame
        finally:
            process.kill()  # the caller may stop early
        if count == 0:
            raise InputError(f"{path} holds no picture that can be decoded; convert it to mp4")


def _read_ppm(stream: IO[bytes]) -> np.ndarray | None:
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # 255
    data = bytearray(width * height * 3)  # writable, unlike bytes
    if stream.readinto(data) != len(data):  # type: ignore[attr-defined]
        return None
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


class VideoWriter:
    """Write frames as H.264 mp4 that plays in browsers, with the sound of `audio`, marked as synthetic.

    Use as a context manager. The file appears under its name when the block ends well; after an exception or Ctrl-C
    nothing is left. The sound is cut, or lengthened with silence, to the picture within one frame; AAC of the right
    length is taken over bit by bit, everything else is encoded at 192 kbit/s.

    Pictures of odd size get one more column or row, a copy of the last: yuv420p stores colour for pairs of pixels.

    Raises:
        OutputError: if the file cannot be written, also while writing.
        InputError: if `audio` has no sound that can be decoded.
    """

    def __init__(self, path: str | Path, width: int, height: int, fps: float, audio: str | Path | None = None) -> None:
        if width < 2 or height < 2:
            raise OutputError(f"{path} would be {width}x{height}; a video needs at least 2x2 pixels")
        self.path = Path(path)
        self.width, self.height = width, height
        self.fps = fps
        self.audio = None if audio is None else Path(audio)
        self.frames = 0

    @property
    def duration(self) -> float:
        """Seconds of picture written so far."""
        return self.frames / self.fps

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            self._part = stack.enter_context(new_file(self.path))
            self._picture = stack.enter_context(_silent_picture(self._part)) if self.audio else self._part
            self._log = stack.enter_context(tempfile.TemporaryFile())
            self._encoder = self._start()
            stack.callback(self._stop)  # a no-op once the encoder has ended
            self._stack = stack.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame.

        Shape:
            frame: (height, width, 3) uint8 RGB.
        """
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            expected = f"({self.height}, {self.width}, 3) uint8"
            raise OutputError(f"frame {self.frames} is {frame.shape} {frame.dtype}; {self.path} takes {expected}")
        odd = ((0, self.height % 2), (0, self.width % 2), (0, 0))
        if self.height % 2 or self.width % 2:
            frame = np.pad(frame, odd, mode="edge")
        assert self._encoder.stdin is not None
        try:
            self._encoder.stdin.write(np.ascontiguousarray(frame).data.cast("B"))
        except OSError:
            self._encoder.wait()
            raise _failure(self.path, self._log) from None
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(kind, error, trace)

    def _start(self) -> subprocess.Popen[bytes]:
        width, height = self.width + self.width % 2, self.height + self.height % 2
        command = [
            *_ffmpeg(), "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", _rate(self.fps),
            "-i", "pipe:0", "-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", *BT709,
            "-c:v", "libx264", "-preset", PRESET, "-crf", str(QUALITY), *_mp4(self._picture),
        ]  # fmt: skip
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log)

    def _stop(self) -> None:
        self._encoder.kill()
        with suppress(OSError):  # frames still in the pipe
            self._encoder.communicate()

    def _finish(self) -> None:
        if self.frames == 0:
            raise OutputError(f"{self.path} would hold no frame; nothing was written")
        with suppress(OSError):  # the exit code tells
            self._encoder.communicate()
        if self._encoder.returncode:
            raise _failure(self.path, self._log)
        if self.audio:
            _join(self._picture, self.audio, self._part, self.path, self.frames, self.fps)


def _join(picture: Path, audio: Path, part: Path, path: Path, frames: int, fps: float) -> None:
    """Put picture and sound into one file. A second pass: only now is it known how long the picture is."""
    duration = frames / fps
    codec, rate, seconds = _sound(audio)
    if codec == "aac" and AAC_FRAME / rate <= 1 / fps and abs(seconds - duration) <= 1 / fps:
        sound = ["-c:a", "copy"]
    else:
        # Beginning: silence until the sound begins. End: silence until the picture ends. No browser plays every rate.
        sound = ["-af", "aresample=async=1:first_pts=0,apad", "-c:a", "aac", "-b:a", "192k"]
        sound += [] if rate in (44_100, 48_000) else ["-ar", "48000"]
    command = [
        *_ffmpeg(), "-i", f"file:{picture}", *LOCAL_FILES, "-i", f"file:{audio}", "-map", "0:v:0", "-map", "1:a:0",
        "-map_metadata", "-1", "-map_chapters", "-1", "-c:v", "copy", *sound, "-t", f"{duration:.6f}", *_mp4(part),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, check=False)
        if done.returncode:
            raise _failure(path, log)


def _sound(audio: Path) -> tuple[str, int, float]:
    """Codec, sample rate and duration of a sound track."""
    check_readable(audio, InputError, "sound")
    text = _listing(audio)
    stream = re.search(r"Stream #\S+ Audio: (\w+).*?, (\d+) Hz", text)
    if stream is None:
        raise InputError(f"{audio} has no sound track that can be decoded; convert it to wav")
    return stream[1], int(stream[2]), _duration(text) or math.nan


def _listing(path: Path) -> str:
    """What ffmpeg says about a file."""
    command = [*_ffmpeg("info"), *LOCAL_FILES, "-i", f"file:{path}"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # no output: it "fails"
    return said.stderr.decode(errors="replace")


def _duration(listing: str) -> float | None:
    found = re.search(r"Duration: (\d+):(\d+):([\d.]+)", listing)
    return found and float(found[1]) * 3600 + float(found[2]) * 60 + float(found[3])


def _exact_rate(fps: float) -> float:
    """Undo the rounding to two decimals of NTSC rates: 29.97 is 30000/1001."""
    ntsc = round(fps * 1.001) / 1.001
    return ntsc if abs(ntsc - fps) < 0.005 < abs(round(fps) - fps) else fps


@contextmanager
def _silent_picture(part: Path) -> Iterator[Path]:
    picture = part.with_name(f"{part.name}.picture")
    try:
        yield picture
    finally:
        picture.unlink(missing_ok=True)


def _ffmpeg(level: str = "error") -> list[str]:
    import imageio_ffmpeg

    return [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-v", level, "-y"]


def _mp4(path: Path) -> list[str]:
    return ["-movflags", "+faststart", "-metadata", f"comment={COMMENT}", "-f", "mp4", f"file:{path}"]


def _rate(fps: float) -> str:
    """A frame rate as a fraction, which ffmpeg takes without rounding: 30000/1001 stays what it is."""
    if not (math.isfinite(fps) and 0 < fps < 1000):
        raise ConfigError(f"fps is {fps:g}; it must be above 0 and below 1000")
    exact = Fraction(fps).limit_denominator(1001)
    return f"{exact.numerator}/{exact.denominator}"


def _failure(path: Path, log: IO[bytes]) -> OutputError:
    """The end of what ffmpeg said, as our error."""
    log.seek(0)
    text = log.read().decode(errors="replace").strip()
    if os.strerror(errno.ENOSPC) in text:
        return output_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    last = text.splitlines()[-1] if text else "ffmpeg ended without a word"
    return OutputError(f"{path} cannot be written (ffmpeg: {last.rstrip('.')}); check the folder and the free space")
