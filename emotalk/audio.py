"""Decode any sound to a 16 kHz mono waveform, and cut MFCC windows from it, one per video frame.

Files are read by soundfile; what it cannot read (m4a, sound tracks of videos) by the ffmpeg binary of imageio-ffmpeg.
Both are read in blocks and resampled as a stream, so an hour of 96 kHz surround costs no more memory than 16 kHz.

Normalisation is part of the weights and is chosen so that the network sees the same speech as the same numbers:

- *Loud level.* Frames are gated as in ITU-R BS.1770: the mean of the frames within 15 dB of that mean. Silence before,
  after or between words falls under the gate, so it changes nothing; gain moves the level and the gate together.
- *Floor.* Each mel band gets a constant floor, `floor_db` below its own mean over the active frames. Silence and
  background noise below the floor become one and the same input: coefficient 0 is -3, all others and all deltas are
  about 0. A plain logarithm would turn inaudible noise into large random coefficients.
- *Coefficients 1 to 13* lose their mean over active frames (the microphone) and are divided by their standard
  deviation, drawn towards its typical value when there is little sound: short or steady sound is not blown up.
- *Coefficient 0* is the level: 0 at the utterance's mean, falling by 1 per 10 dB, always. Dividing it by its own spread
  would hide how silent silence is, and the mouth must close there.
- A recording whose loud level is under `silence_dbfs` is silent as a whole: its noise is not speech.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .config import AudioConfig
from .errors import AudioError, ConfigError
from .files import check_readable

SAMPLE_RATE = AudioConfig().sample_rate
SHORTEST_SECONDS = 0.1
GATE_DB = 15.0  # frames this far below the loud level are not speech
BAND_RANGE_DB = 60.0  # a band further below the loud level is empty (a telephone's upper half)
LEVEL_DB = 10.0  # unit of coefficient 0
DELTA_SECONDS = 0.1  # deltas are the change in this time, fitted over five frames
DELTA_WIDTH = 5
PRIOR_FRAMES = 50  # weight of the typical standard deviations: as much as one second of speech
# Standard deviation of MFCC 1 to 13 over active frames, in dB: means of 150 GRID, 45 LJ Speech and other recordings.
TYPICAL_DEVIATION = (41.0, 21.0, 20.0, 15.0, 10.0, 9.5, 8.6, 7.0, 7.0, 6.4, 6.1, 6.1, 5.7)
BLOCK_FRAMES = 4096  # MFCC frames transformed at once
READ_SAMPLES = 1 << 18  # samples decoded at once


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono sound.

    Shape:
        samples: (n,) float32, full scale is 1.
    """

    samples: np.ndarray
    sample_rate: int = SAMPLE_RATE

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def is_silent(self) -> bool:
        """Whether nothing in it is loud enough to move a mouth."""
        size = self.sample_rate // 50
        whole = len(self.samples) // size * size
        frames = self.samples[:whole].reshape(-1, size) if whole else self.samples[None]
        return _loud_level(frames.var(axis=1, dtype=np.float64)) < AudioConfig().silence_dbfs


def number_of_frames(duration: float, fps: float) -> int:
    """Video frames that cover `duration` seconds, at least one."""
    if not 0 < fps < 1000:
        raise ConfigError(f"fps is {fps:g}; it must be above 0 and below 1000")
    return max(1, round(duration * fps))


def read_audio(path: str | Path) -> Waveform:
    """Read any sound file, or the sound track of a video, as 16 kHz mono.

    Raises:
        AudioError: if the file is missing, unreadable, not sound, shorter than 0.1 s, or contains NaN or infinity.
    """
    path = Path(path)
    check_readable(path, AudioError, "sound")
    blocks = list(_decode(path))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    blocks.clear()
    if len(samples) == 0:
        raise AudioError(f"{path} contains no sound samples; record it again")
    samples -= samples.mean(dtype=np.float64)  # a constant offset would click where the sound begins and ends
    if len(samples) < SHORTEST_SECONDS * SAMPLE_RATE:
        raise AudioError(f"{path} lasts {len(samples) / SAMPLE_RATE:.3f} s; at least {SHORTEST_SECONDS:g} s is needed")
    return Waveform(samples)


def mfcc_windows(samples: np.ndarray, fps: float, config: AudioConfig = AudioConfig()) -> np.ndarray:  # noqa: B008
    """MFCC windows, one per video frame, each centred on the middle of its frame, silence beyond both ends.

    Shape:
        samples: (n,) float32 at `config.sample_rate`.
        returns: (T, context, 2 * coefficients) float32, T = number_of_frames(duration, fps).
    """
    frames = number_of_frames(len(samples) / config.sample_rate, fps)
    rows = window_starts(frames, fps, config)[:, None] + np.arange(config.context)  # (T, context)
    windows: np.ndarray = mfcc(samples, config)[rows]
    return windows


def window_starts(frames: int, fps: float, config: AudioConfig = AudioConfig()) -> np.ndarray:  # noqa: B008
    """First row of `mfcc` in the window of each video frame.

    Shape:
        returns: (frames,) int64.
    """
    middle = (np.arange(frames) + 0.5) / (fps * config.hop_seconds)  # in hops
    nearest: np.ndarray = np.floor(middle + 0.5 + 1e-6).astype(np.int64)
    return nearest + config.context - config.context // 2


def mfcc(samples: np.ndarray, config: AudioConfig = AudioConfig()) -> np.ndarray:  # noqa: B008
    """Normalised MFCC and deltas of an utterance, with silence of one context on either side.

    Shape:
        samples: (n,) float32 at `config.sample_rate`.
        returns: (context + ceil(n / hop) + context, 2 * coefficients) float32; row `context + i` is the sound around
            (i + 1/2) hops.

    Raises:
        AudioError: if `samples` is empty, not one-dimensional or not finite.

    Source:
        14 MFCC and 14 deltas as in the MEAD baseline (Wang et al., ECCV 2020); normalisation: see the module.
    """
    import librosa

    if samples.ndim != 1 or samples.size == 0:
        raise AudioError(f"the waveform has shape {samples.shape}; expected (n,) with n above 0")
    if not np.isfinite(samples).all():
        raise AudioError("the waveform contains NaN or infinity")
    power = np.concatenate(list(_mel_power(samples, config)))  # (L, mel_bands)
    gain = _full_scale_power(config)
    frame_power = power.sum(axis=1, dtype=np.float64) / gain
    level = _loud_level(frame_power)
    result = np.zeros((len(power), config.features), np.float32)
    coefficients = result[:, : config.coefficients]
    if level < config.silence_dbfs:
        coefficients[:, 0] = -config.floor_db / LEVEL_DB
        return result

    active = frame_power > 10 ** ((level - GATE_DB) / 10)
    empty = gain * 10 ** ((level - BAND_RANGE_DB) / 10)
    spectrum = np.log(np.maximum(power[active], empty)).mean(axis=0)  # mean of the active frames
    power += np.exp(spectrum) * 10 ** (-config.floor_db / 10)
    decibels = librosa.power_to_db(power.T, amin=1e-30, top_db=None)
    coefficients[:] = librosa.feature.mfcc(S=decibels, n_mfcc=config.coefficients).T
    coefficients -= coefficients[active].mean(axis=0)
    coefficients /= _deviation(coefficients[active], config)
    delta = librosa.feature.delta(coefficients, width=DELTA_WIDTH, axis=0, mode="nearest")
    result[:, config.coefficients :] = delta * (DELTA_SECONDS / config.hop_seconds)
    return result


def _deviation(active: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Divisors of the coefficients: a fixed one for the level, regularised standard deviations for the rest."""
    typical = np.interp(np.arange(config.coefficients - 1), np.arange(len(TYPICAL_DEVIATION)), TYPICAL_DEVIATION)
    variance = active[:, 1:].var(axis=0, dtype=np.float64)
    blended = (len(active) * variance + PRIOR_FRAMES * typical**2) / (len(active) + PRIOR_FRAMES)
    return np.concatenate([[LEVEL_DB * np.sqrt(config.mel_bands)], np.sqrt(blended)]).astype(np.float32)


def _mel_power(samples: np.ndarray, config: AudioConfig) -> Iterator[np.ndarray]:
    """Mel power in blocks of frames, the same numbers as in one piece: each block reads the overlap it needs."""
    import librosa

    hop, size = config.hop_samples, _transform_size(config)
    total = 2 * config.context + -(-len(samples) // hop)
    filters = librosa.filters.mel(
        sr=config.sample_rate, n_fft=size, n_mels=config.mel_bands, norm=None,
        fmin=config.lowest_hz, fmax=config.highest_hz,
    )  # fmt: skip
    for first in range(0, total, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, total - first)
        begin = (first - config.context) * hop + hop // 2 - size // 2  # sample under the start of the first transform
        end = begin + (count - 1) * hop + size
        block = np.zeros(end - begin, np.float32)
        inside = slice(max(begin, 0), max(min(end, len(samples)), 0))
        piece = samples[inside]
        block[inside.start - begin : inside.start - begin + len(piece)] = piece
        spectrum = librosa.stft(block, n_fft=size, hop_length=hop, win_length=config.window_samples, center=False)
        yield (filters @ (spectrum.real**2 + spectrum.imag**2)).T


def _transform_size(config: AudioConfig) -> int:
    return 1 << (config.window_samples - 1).bit_length()


def _full_scale_power(config: AudioConfig) -> float:
    """Sum over the bands that a signal of root mean square 1 gives (Parseval; the squared Hann window has mean 3/8)."""
    return _transform_size(config) * config.window_samples * 3 / 8 / 2


def _loud_level(power: np.ndarray) -> float:
    """Level of the loud frames, in dB; -inf for digital silence.

    The mean is that of the amplitude, not of the power as in BS.1770, so one click does not outweigh a sentence. The
    first gate comes from the mean weighted with the amplitude itself, which long stretches of noise hardly change.
    """
    amplitude = np.sqrt(power)
    if not amplitude.any():
        return -np.inf
    level = float((amplitude**2).sum() / amplitude.sum())
    for _ in range(8):
        level = float(amplitude[amplitude > level * 10 ** (-GATE_DB / 20)].mean())
    return 20 * float(np.log10(level))


def _decode(path: Path) -> Iterator[np.ndarray]:
    """Blocks of 16 kHz mono samples, (n,) float32."""
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError, ValueError):  # TypeError: a headerless .raw
        yield from _decode_by_ffmpeg(path)
        return
    with file:
        yield from _resample(_mono_blocks(path, file), file.samplerate)


def _mono_blocks(path: Path, file: object) -> Iterator[np.ndarray]:
    import soundfile

    assert isinstance(file, soundfile.SoundFile)
    bad = 0
    try:
        while len(block := file.read(max(1, READ_SAMPLES // file.channels), dtype="float32", always_2d=True)):
            bad += block.size - int(np.isfinite(block).sum())
            if not bad:
                yield block.mean(axis=1)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path} is damaged ({str(error).rstrip('.')}); convert it to wav and try again") from None
    if bad:
        raise AudioError(f"{path} contains {bad} samples that are NaN or infinite; export the sound again")


def _resample(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Resample a stream as `librosa.resample` (soxr, high quality) does a whole waveform."""
    import soxr  # type: ignore[import-untyped]

    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _decode_by_ffmpeg(path: Path) -> Iterator[np.ndarray]:
    """Decode the first sound track; sound that begins after the picture is preceded by silence."""
    import imageio_ffmpeg

    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error",
        "-protocol_whitelist", "file", "-i", f"file:{path}", "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0",
        "-ac", "1", "-ar", str(SAMPLE_RATE), "-protocol_whitelist", "pipe", "-f", "f32le", "pipe:1",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process:
            assert process.stdout is not None
            found = False
            while block := process.stdout.read(READ_SAMPLES * 4):
                found = True
                yield np.frombuffer(block[: len(block) // 4 * 4], np.float32)
        if process.returncode and not found:
            log.seek(0)
            text = log.read().decode(errors="replace")
            if "matches no streams" in text:
                raise AudioError(f"{path} has no sound track; give a recording of speech")
            raise AudioError(f"{path} is not a sound file that can be decoded; convert it to wav and try again")
