"""Sound: any file becomes the same waveform, and the same speech becomes the same numbers."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import imageio_ffmpeg
import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from emotalk import audio
from emotalk.audio import SAMPLE_RATE, Waveform, mfcc, mfcc_windows, number_of_frames, read_audio, window_starts
from emotalk.config import AudioConfig
from emotalk.errors import AudioError, ConfigError

CONTEXT = AudioConfig().context
COEFFICIENTS = AudioConfig().coefficients
SILENCE = -AudioConfig().floor_db / 10  # coefficient 0 where nothing is heard


def speech(seconds: float = 2.0, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Something like syllables: a gliding, breathy voice with moving formants, a hiss after each, and rests."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    voice = np.zeros_like(time)
    for harmonic in range(1, 25):
        formant = np.exp(-(((harmonic * pitch - 600 - 300 * np.sin(7 * time)) / 400) ** 2))
        voice += (0.05 + formant) * np.sin(2 * np.pi * harmonic * np.cumsum(pitch) / rate)
    hiss, breath = np.random.default_rng(0).standard_normal((2, len(time))) * [[0.4], [0.05]]
    syllable = np.clip(np.sin(2 * np.pi * 3 * time), 0, 1)
    consonant = np.clip(-np.sin(2 * np.pi * 3 * time) - 0.7, 0, 1)
    sound = 0.1 * ((voice + breath) * syllable + hiss * consonant)
    return sound.astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def convert(source: Path, target: Path, *options: str) -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


# Reading


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(("subtype", "channels"), [
    ("PCM_U8", 1), ("PCM_16", 2), ("PCM_24", 1), ("PCM_32", 6), ("FLOAT", 2), ("DOUBLE", 1), ("ULAW", 1),
])  # fmt: skip
def test_wav_of_any_depth_rate_and_channels(tmp_path: Path, rate: int, subtype: str, channels: int) -> None:
    time = np.arange(round(0.5 * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", np.repeat(tone[:, None], channels, axis=1), rate, subtype)
    waveform = read_audio(tmp_path / "a.wav")
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / SAMPLE_RATE)
    assert waveform.samples.dtype == np.float32 and waveform.sample_rate == SAMPLE_RATE
    assert abs(len(waveform.samples) - 8_000) <= 2
    middle = slice(800, 7_200)  # a resampler rings at the ends
    assert np.abs(waveform.samples[middle] - expected[middle]).max() < 0.02


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3", "m4a", "aac", "opus", "mkv", "aiff", "MP3"])
def test_every_format_gives_the_same_speech(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / "a.wav", speech(rate=44_100), 44_100)
    path = convert(tmp_path / "a.wav", tmp_path / f"grüße a.{ending}")
    expected, samples = read_audio(tmp_path / "a.wav").samples, read_audio(str(path)).samples
    late = 0.05 if ending == "aac" else 0.03  # raw AAC cannot say how much silence its encoder put in front
    assert abs(len(samples) - len(expected)) < (late + 0.05) * SAMPLE_RATE
    length = min(len(samples), len(expected))
    lag = int(np.argmax(np.correlate(samples[:length], expected[:length], "full"))) - (length - 1)
    assert 0 <= lag < late * SAMPLE_RATE
    aligned = samples[lag:length], expected[: length - lag]
    assert np.corrcoef(*aligned)[0, 1] > 0.9


def test_the_sound_track_of_a_video(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech(), SAMPLE_RATE)
    picture = ("-f", "lavfi", "-i", "color=size=64x64:rate=25:duration=2")
    video = convert(tmp_path / "a.wav", tmp_path / "a.mp4", *picture, "-map", "1:v", "-map", "0:a")
    silent = convert(tmp_path / "a.wav", tmp_path / "b.mp4", *picture, "-map", "1:v")
    assert read_audio(video).duration == pytest.approx(2.0, abs=0.05)
    with pytest.raises(AudioError, match="has no sound track"):
        read_audio(silent)


def test_a_stream_is_resampled_like_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = speech(rate=44_100)
    soundfile.write(tmp_path / "a.wav", sound, 44_100, "FLOAT")
    monkeypatch.setattr(audio, "READ_SAMPLES", 1_000)
    whole = librosa.resample(sound, orig_sr=44_100, target_sr=SAMPLE_RATE)
    samples = read_audio(tmp_path / "a.wav").samples
    assert abs(len(samples) - len(whole)) <= 1
    length = min(len(samples), len(whole))
    assert np.abs(samples[:length] - (whole[:length] - whole.mean())).max() < 1e-3


def test_a_constant_offset_is_removed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech() * 0.5 + 0.3, SAMPLE_RATE)
    assert abs(read_audio(tmp_path / "a.wav").samples.mean()) < 1e-6


def test_bad_sound_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not sound")
    (tmp_path / "text.txt").write_text("not sound\n" * 1000)
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros(0), SAMPLE_RATE)
    soundfile.write(tmp_path / "one.wav", np.zeros(1), SAMPLE_RATE)
    soundfile.write(tmp_path / "short.wav", np.zeros(1_500), SAMPLE_RATE)
    broken = speech()
    broken[[5, 70, 900]] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "nan.wav", broken, SAMPLE_RATE, "FLOAT")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    cases = {
        "text.wav": "can be decoded", "text.txt": "no sound track", "empty.wav": "0 bytes",
        "none.wav": "contains no sound", "one.wav": "lasts 0.000 s; at least 0.1 s", "short.wav": "lasts 0.094 s",
        "nan.wav": "contains 3 samples that are NaN or infinite", "list.m3u8": "can be decoded",
        "missing.wav": "does not exist", ".": "is a folder",
    }  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(AudioError, match=words) as caught:
            read_audio(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", speech(), SAMPLE_RATE)

    def refuse(self: Path, *_: object) -> None:  # root, as whom tests may run, may read everything
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"a.wav cannot be read \(Permission denied\)"):
        read_audio(tmp_path / "a.wav")


def test_silent_means_nothing_that_moves_a_mouth() -> None:
    hum = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    assert Waveform(silence(1)).is_silent
    assert Waveform(hum * 1e-4).is_silent
    assert Waveform(np.full(SAMPLE_RATE, 0.5, np.float32)).is_silent
    assert not Waveform(speech()).is_silent
    assert not Waveform(speech() * 0.02).is_silent
    assert not Waveform(np.concatenate([silence(60), speech(0.5)])).is_silent


# Windows


@given(samples=st.integers(1_600, 60_000), fps=st.sampled_from([10, 12.5, 23.976, 24, 25, 29.97, 30, 48, 50, 60]))
@settings(max_examples=30, deadline=None)
def test_one_window_per_video_frame_centred_on_it(samples: int, fps: float) -> None:
    frames = number_of_frames(samples / SAMPLE_RATE, fps)
    config = AudioConfig()
    rows = CONTEXT * 2 + -(-samples // config.hop_samples)
    starts = window_starts(frames, fps)
    assert abs(frames - samples / SAMPLE_RATE * fps) <= 0.5 or frames == 1
    assert starts.min() >= 0 and starts.max() + CONTEXT <= rows
    centre = (starts - CONTEXT + CONTEXT / 2) * config.hop_seconds  # row CONTEXT + i lies at (i + 1/2) hops
    assert np.abs(centre - (np.arange(frames) + 0.5) / fps).max() <= config.hop_seconds / 2 + 1e-4


@pytest.mark.parametrize("fps", [24, 25, 30, 50])
def test_a_click_appears_in_the_middle_of_its_frame(fps: float) -> None:
    sound = np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE).astype(np.float32) * 1e-3
    frame = round(1.2 * fps)
    at = round((frame + 0.5) / fps * SAMPLE_RATE)
    sound[at - 80 : at + 80] *= 300
    window = mfcc_windows(sound, fps)[frame]
    assert window.shape == (CONTEXT, 2 * COEFFICIENTS) and window.dtype == np.float32
    loudness = window[:, 0] - window[:, 0].min()
    middle = (loudness * (np.arange(CONTEXT) + 0.5)).sum() / loudness.sum()
    assert middle == pytest.approx(CONTEXT / 2, abs=0.2 if fps == 25 else 0.7)  # at 25 fps the middle lies on the grid


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), 1000.0])
def test_impossible_frame_rates(fps: float) -> None:
    with pytest.raises(ConfigError, match="fps is"):
        number_of_frames(1.0, fps)


# Features


def test_coefficients_are_those_of_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without floor and normalisation, the front end is librosa's own MFCC of the padded waveform."""
    config = AudioConfig(floor_db=200.0, silence_dbfs=-300.0)
    sound = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    monkeypatch.setattr(audio, "_deviation", lambda active, config: np.ones(config.coefficients, np.float32))
    ours = mfcc(sound, config)[CONTEXT + 2 : -CONTEXT - 2, :COEFFICIENTS]
    reference = librosa.feature.mfcc(
        y=sound[160 - 256 + 320 :], sr=SAMPLE_RATE, n_mfcc=COEFFICIENTS, n_mels=40, n_fft=512, hop_length=320,
        win_length=400, center=False, fmin=100, fmax=7600, norm="ortho", htk=False, power=2.0,
    ).T  # fmt: skip
    # librosa's default filters have unit area, ours unit height: a constant per band, so a constant per coefficient.
    reference = reference[1 : 1 + len(ours)]
    assert np.abs((ours - ours.mean(0)) - (reference - reference.mean(0))).max() < 2e-2


def test_deltas_are_the_change_in_a_tenth_of_a_second() -> None:
    features = mfcc(speech())
    expected = librosa.feature.delta(features[:, :COEFFICIENTS].T, width=5, mode="nearest").T * 5
    assert np.abs(features[:, COEFFICIENTS:] - expected).max() < 1e-5


@pytest.mark.parametrize("gain", [0.01, 0.3, 3.0, 1000.0])
def test_gain_changes_nothing(gain: float) -> None:
    assert np.abs(mfcc(speech() * np.float32(gain)) - mfcc(speech())).max() < 1e-3


@pytest.mark.parametrize(("before", "after"), [(0.4, 0.0), (0.0, 3.0), (10.0, 30.0)])
def test_silence_around_speech_changes_nothing(before: float, after: float) -> None:
    alone = mfcc(speech())
    padded = mfcc(np.concatenate([silence(before), speech(), silence(after)]))
    shift = round(before / 0.02)
    assert np.abs(padded[shift : shift + len(alone)] - alone).max() < 1e-3


def test_a_long_pause_changes_nothing() -> None:
    halves = np.split(speech(), 2)
    joined = mfcc(np.concatenate(halves))
    paused = mfcc(np.concatenate([halves[0], silence(20), halves[1]]))
    rows = CONTEXT + 45  # well before the cut
    assert np.abs(paused[:rows] - joined[:rows]).max() < 0.02


@pytest.mark.parametrize("snr", [60, 40, 30])
def test_noise_in_a_pause_moves_speech_little_and_stays_below_it(snr: int) -> None:
    sound = speech()
    noise = np.random.default_rng(3).standard_normal(20 * SAMPLE_RATE + len(sound)).astype(np.float32)
    noise *= np.sqrt((sound**2).mean()) * 10 ** (-snr / 20)
    noise[10 * SAMPLE_RATE : 10 * SAMPLE_RATE + len(sound)] = sound
    features, alone = mfcc(noise), mfcc(sound)[CONTEXT:-CONTEXT]
    spoken = features[CONTEXT + 500 : CONTEXT + 500 + len(alone)]
    assert np.sqrt(((spoken - alone) ** 2).mean()) < 0.3
    pause = features[CONTEXT + 50 : CONTEXT + 450]
    assert pause[:, 0].mean() < {60: -1.6, 40: -1.0, 30: -0.4}[snr]
    assert np.abs(pause[:, 1:COEFFICIENTS]).mean() < 1.2


def test_silence_is_always_the_same_input() -> None:
    quiet = mfcc(silence(1.0))
    assert (quiet[:, 0] == SILENCE).all() and (quiet[:, 1:] == 0).all()
    hiss = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * 1e-4
    assert np.array_equal(mfcc(hiss), quiet)  # its own loudest parts, yet no speech
    around = mfcc(speech())[: CONTEXT // 2]
    assert around[:, 0].max() < SILENCE + 1  # real speech, less extreme than this, comes within 0.06
    assert np.ptp(around, axis=0).max() == 0
    assert np.abs(around[:, 1:]).max() < 0.5


@pytest.mark.parametrize("sound", [
    np.ones(1, np.float32), speech(0.1), speech(0.02), np.sin(np.arange(SAMPLE_RATE) * 0.1).astype(np.float32),
    np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32),
    np.eye(1, SAMPLE_RATE, 8_000, dtype=np.float32)[0],
], ids=["one sample", "0.1 s", "0.02 s", "tone", "noise", "click"])  # fmt: skip
def test_odd_sounds_give_small_numbers(sound: np.ndarray) -> None:
    features = mfcc(sound)
    assert np.isfinite(features).all()
    assert np.abs(features[:, :COEFFICIENTS]).max() < 8
    steady = features[CONTEXT + 5 : -CONTEXT - 5, 1:COEFFICIENTS]
    assert steady.size == 0 or steady.std(axis=0).max() < 1.5


def test_one_click_does_not_outweigh_a_sentence() -> None:
    clicked = speech()
    clicked[16_000] = 1.0
    change = np.abs(mfcc(clicked) - mfcc(speech()))
    away = np.r_[0 : CONTEXT + 45, CONTEXT + 55 : len(change)]
    assert change[away].mean() < 0.1


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    whole = mfcc(speech())
    monkeypatch.setattr(audio, "BLOCK_FRAMES", block)
    assert np.abs(mfcc(speech()) - whole).max() < 1e-4


@pytest.mark.parametrize("sound", [
    np.zeros(0, np.float32), np.zeros((2, 100), np.float32), np.array([0.1, np.nan] * 800, np.float32),
])  # fmt: skip
def test_waveforms_that_are_none(sound: np.ndarray) -> None:
    with pytest.raises(AudioError):
        mfcc(sound)


@pytest.mark.parametrize(("change", "words"), [
    ({"context": 29}, "must be even"), ({"hop_seconds": 0.0}, "must be above 0"), ({"coefficients": 41}, "40 mel"),
    ({"highest_hz": 9_000.0}, "audio.highest_hz"), ({"window_seconds": 0.001}, "audio.window_seconds"),
])  # fmt: skip
def test_config_refuses_what_cannot_work(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AudioConfig(**change)  # type: ignore[arg-type]
