"""Videos: frames and sound that line up, whole files or none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from emotalk.audio import SAMPLE_RATE, number_of_frames, read_audio
from emotalk.errors import ConfigError, InputError, OutputError
from emotalk.video import COMMENT, VideoWriter, probe, read_frames

ONSET = 1.0  # seconds at which the burst sounds and the picture turns white


def ffmpeg(*arguments: object) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True).stderr


@pytest.fixture
def burst(tmp_path: Path) -> Callable[..., Path]:
    """A recording that is silent but for 50 ms of tone at `ONSET`."""

    def make(rate: int, channels: int, kind: str, seconds: float = 2.013) -> Path:
        time = np.arange(round(seconds * rate)) / rate
        tone = 0.8 * np.sin(2 * np.pi * 1000 * time) * ((time >= ONSET) & (time < ONSET + 0.05))
        wav = tmp_path / f"{rate}_{channels}.wav"
        soundfile.write(wav, np.repeat(tone[:, None], channels, axis=1), rate)
        if kind == "wav":
            return wav
        ffmpeg("-i", wav, wav.with_suffix(f".{kind}"))
        return wav.with_suffix(f".{kind}")

    return make


def onset(samples: np.ndarray) -> float:
    loud = np.abs(samples) > 0.3 * np.abs(samples).max()
    return float(np.argmax(loud)) / SAMPLE_RATE


def flash(path: Path, fps: float, audio: Path | None, frames: int, height: int = 48, width: int = 64) -> None:
    with VideoWriter(path, width, height, fps, audio=audio) as writer:
        for index in range(frames):
            writer.write(np.full((height, width, 3), 255 * (index >= round(ONSET * fps)), np.uint8))


@pytest.mark.parametrize(
    ("fps", "rate", "channels", "kind"),
    [
        (10, 44_100, 1, "wav"),
        (12.5, 48_000, 2, "m4a"),
        (24, 8_000, 1, "m4a"),
        (25, 44_100, 2, "mp3"),
        (25, 44_100, 2, "m4a"),
        (25, 16_000, 1, "flac"),
        (30_000 / 1001, 48_000, 1, "mp3"),
        (30, 48_000, 2, "m4a"),
        (30, 22_050, 1, "aac"),
        (50, 8_000, 2, "wav"),
        (60, 48_000, 2, "m4a"),
        (60, 44_100, 1, "ogg"),
        (60, 8_000, 1, "mp3"),
        (60, 96_000, 6, "wav"),
    ],
)
def test_sound_and_picture_start_and_end_together(
    burst: Callable[..., Path], tmp_path: Path, fps: float, rate: int, channels: int, kind: str
) -> None:
    speech = burst(rate, channels, kind)
    heard = read_audio(speech)
    frames = number_of_frames(heard.duration, fps)
    out = tmp_path / "out.mp4"
    flash(out, fps, speech, frames)

    shown = [float(frame.mean()) for frame in read_frames(out)]
    assert len(shown) == frames
    white = next(index for index, level in enumerate(shown) if level > 128)
    sound = read_audio(out)
    assert white == round(ONSET * fps)
    raw = kind == "aac"  # has no place to say how much silence its encoder put in front
    assert abs(onset(heard.samples) - ONSET) < (0.06 if raw else 0.03)
    assert abs(onset(sound.samples) - (onset(heard.samples) if raw else ONSET)) < 1 / fps
    assert abs(sound.duration - frames / fps) <= 1 / fps
    assert abs(probe(out).duration - frames / fps) <= 1 / fps
    assert probe(out).fps == pytest.approx(fps, rel=1e-6)


@pytest.mark.parametrize("kind", ["wav", "m4a", "mp3"])
@pytest.mark.parametrize("frames", [30, 75])
def test_sound_is_cut_or_lengthened_to_the_picture(
    burst: Callable[..., Path], tmp_path: Path, kind: str, frames: int
) -> None:
    flash(tmp_path / "out.mp4", 25, burst(44_100, 1, kind), frames)
    assert abs(read_audio(tmp_path / "out.mp4").duration - frames / 25) <= 1 / 25
    assert sum(1 for _ in read_frames(tmp_path / "out.mp4")) == frames


def test_aac_of_the_right_length_is_taken_over_bit_by_bit(burst: Callable[..., Path], tmp_path: Path) -> None:
    speech = burst(44_100, 1, "m4a", seconds=2.0)
    flash(tmp_path / "out.mp4", 25, speech, 50)
    before, after = tmp_path / "before.aac", tmp_path / "after.aac"
    ffmpeg("-i", speech, "-c", "copy", before)
    ffmpeg("-i", tmp_path / "out.mp4", "-vn", "-c", "copy", after)
    assert len(after.read_bytes()) > 1000
    assert before.read_bytes().startswith(after.read_bytes())


def test_the_sound_track_of_a_video_may_speak(burst: Callable[..., Path], tmp_path: Path) -> None:
    """A track that begins half a second after its picture stays half a second late."""
    flash(tmp_path / "first.mp4", 25, burst(44_100, 1, "wav"), 50)
    ffmpeg("-i", tmp_path / "first.mp4", "-itsoffset", 0.5, "-i", tmp_path / "first.mp4",
           "-map", "0:v", "-map", "1:a", "-c", "copy", tmp_path / "late.mp4")  # fmt: skip
    speech = read_audio(tmp_path / "late.mp4")
    assert onset(speech.samples) == pytest.approx(ONSET + 0.5, abs=0.03)
    flash(tmp_path / "out.mp4", 25, tmp_path / "late.mp4", number_of_frames(speech.duration, 25))
    assert onset(read_audio(tmp_path / "out.mp4").samples) == pytest.approx(ONSET + 0.5, abs=0.03)


def test_the_file_plays_in_browsers_and_says_it_is_synthetic(burst: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    flash(out, 25, burst(16_000, 1, "wav"), 50)
    listing = ffmpeg("-i", out)
    assert "h264" in listing and "yuv420p(tv, bt709" in listing
    assert "aac (LC)" in listing and "48000 Hz" in listing
    assert COMMENT in listing
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (47, 64), (48, 64), (2, 3)])
def test_odd_sizes_repeat_the_last_row_and_column(tmp_path: Path, height: int, width: int) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, -1] = picture[-1] = 200
    with VideoWriter(tmp_path / "out.mp4", width, height, 25) as writer:
        for _ in range(3):
            writer.write(picture)
    frame = next(read_frames(tmp_path / "out.mp4"))
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert frame[:, -1].mean() == pytest.approx(200, abs=12)


def test_colours_survive(tmp_path: Path) -> None:
    colours = np.array([[200, 30, 40], [30, 180, 60], [40, 60, 210], [224, 172, 140], [128, 128, 128]], np.uint8)
    picture = np.repeat(np.repeat(colours[None], 64, axis=0), 32, axis=1)
    with VideoWriter(tmp_path / "out.mp4", 160, 64, 25) as writer:
        for _ in range(5):
            writer.write(picture[:, ::-1][:, ::-1])  # not contiguous
    middle = next(read_frames(tmp_path / "out.mp4"))[32, 16::32].astype(int)
    assert np.abs(middle - colours).max() <= 4


def test_frames_are_resampled_to_a_wanted_rate_and_upright(tmp_path: Path) -> None:
    flash(tmp_path / "a.mp4", 25, None, 50)
    assert sum(1 for _ in read_frames(tmp_path / "a.mp4", fps=50)) == pytest.approx(100, abs=1)
    assert sum(1 for _ in read_frames(tmp_path / "a.mp4", fps=12.5)) == pytest.approx(25, abs=1)
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    info = probe(tmp_path / "turned.mp4")
    assert (info.width, info.height) == (48, 64)
    assert next(read_frames(tmp_path / "turned.mp4")).shape == (64, 48, 3)
    assert not info.has_sound and info.duration == 2


def test_reading_may_stop_early(tmp_path: Path) -> None:
    flash(tmp_path / "a.mp4", 25, None, 200, height=256, width=256)
    frames = read_frames(tmp_path / "a.mp4")
    first = next(frames)
    first[:] = 7  # the caller's own array
    frames.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, FileNotFoundError])
def test_nothing_is_left_after_an_exception(
    burst: Callable[..., Path], tmp_path: Path, error: type[BaseException]
) -> None:
    speech = burst(16_000, 1, "wav")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.mp4").write_bytes(b"old")
    with pytest.raises(error), VideoWriter(folder / "old.mp4", 64, 48, 25, audio=speech) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        raise error
    assert [path.name for path in folder.iterdir()] == ["old.mp4"]
    assert (folder / "old.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("when", ["during", "at the end"])
def test_a_full_disk_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: str) -> None:
    program = tmp_path / "ffmpeg"
    read = "head -c 100 >/dev/null" if when == "during" else "cat >/dev/null"
    program.write_text(
        f"#!/bin/sh\n{read}\necho 'av_interleaved_write_frame(): No space left on device' >&2\nexit 228\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"No space left on device.*; free some space") as caught:
        flash(folder / "a.mp4", 25, None, 100, height=256, width=256)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="make the folder first"):
        flash(tmp_path / "none" / "a.mp4", 25, None, 1)
    with pytest.raises(OutputError, match="is a folder"):
        flash(tmp_path, 25, None, 1)
    with pytest.raises(OutputError, match="would hold no frame"):
        flash(tmp_path / "a.mp4", 25, None, 0)
    with pytest.raises(ConfigError, match="fps is 0"):
        flash(tmp_path / "a.mp4", 0, None, 1)
    with (
        pytest.raises(OutputError, match=r"frame 0 is \(48, 64, 4\) uint8"),
        VideoWriter(tmp_path / "a.mp4", 64, 48, 25) as writer,
    ):
        writer.write(np.zeros((48, 64, 4), np.uint8))
    assert not list(tmp_path.iterdir())


def test_sound_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(InputError, match="no sound track that can be decoded"):
        flash(tmp_path / "a.mp4", 25, tmp_path / "text.wav", 2)
    with pytest.raises(InputError, match="does not exist"):
        flash(tmp_path / "a.mp4", 25, tmp_path / "none.wav", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["text.wav"]


@pytest.mark.parametrize("read", [probe, lambda path: next(read_frames(path))])
def test_bad_videos_are_named_in_one_line(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    soundfile.write(tmp_path / "sound.wav", np.zeros(1600), 16_000)
    cases = {
        "text.mp4": "convert",
        "empty.mp4": "0 bytes",
        "sound.wav": "convert",
        "none.mp4": "does not exist",
        ".": "folder",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_cut_off_video_gives_the_frames_it_has(tmp_path: Path) -> None:
    flash(tmp_path / "a.mp4", 25, None, 100, height=256, width=256)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    assert 0 < sum(1 for _ in read_frames(tmp_path / "cut.mp4")) < 100
