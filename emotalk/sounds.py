"""Other voices, rooms and channels from one clean recording: the variety a small speech corpus lacks.

Used in training only. Every function takes and returns mono float32 at `SAMPLE_RATE` and draws from the generator it
is given; the same generator state gives the same sound.
"""

from __future__ import annotations

from collections.abc import Sequence

import librosa
import numpy as np

SAMPLE_RATE = 16_000  # Hz
FFT = 1024  # samples, 64 ms: resolves the harmonics of a low voice
HOP = 256
LIFTER = 28  # cepstral samples kept as the spectral envelope: 1.75 ms, shorter than the period of a child's voice


def change_voice(waveform: np.ndarray, *, pitch: float = 1.0, formants: float = 1.0, speed: float = 1.0) -> np.ndarray:
    """Another speaker's voice saying the same: pitch, vocal tract and tempo change independently.

    The sound is resampled by `pitch`, then a phase vocoder restores the tempo while the spectral envelope (low
    cepstrum) is stretched by what the resampling has not already done to the formants.

    Args:
        pitch: factor on the fundamental frequency; 1.8 makes a woman of a man.
        formants: factor on the resonances; 1.2 is a vocal tract one sixth shorter.
        speed: factor on the tempo; the result lasts `1 / speed` times as long, to the sample.
    """
    wanted = max(1, round(len(waveform) / speed))
    if abs(pitch - 1) > 1e-3:
        waveform = librosa.resample(
            waveform, orig_sr=round(SAMPLE_RATE * pitch), target_sr=SAMPLE_RATE, res_type="soxr_lq"
        )
    if len(waveform) < FFT:
        waveform = np.pad(waveform, (0, FFT - len(waveform)))
    spectrum = librosa.stft(waveform, n_fft=FFT, hop_length=HOP)
    stretch = formants / pitch
    if abs(stretch - 1) > 1e-3:
        spectrum = spectrum * envelope_gain(np.abs(spectrum), stretch)
    rate = len(waveform) / wanted
    if abs(rate - 1) > 1e-3:
        spectrum = librosa.phase_vocoder(spectrum, rate=rate, hop_length=HOP, n_fft=FFT)
    result = librosa.istft(spectrum, hop_length=HOP, n_fft=FFT, length=wanted)
    return result.astype(np.float32)


def envelope_gain(magnitude: np.ndarray, stretch: float) -> np.ndarray:
    """Factor (F, L) that moves the spectral envelope of `magnitude` (F, L) up by `stretch`."""
    log = np.log(magnitude + 1e-5)
    cepstrum = np.fft.irfft(log, axis=0)
    cepstrum[LIFTER : len(cepstrum) - LIFTER + 1] = 0
    envelope = np.fft.rfft(cepstrum, axis=0).real
    bins = np.arange(len(envelope)) / stretch
    low = np.minimum(bins.astype(int), len(envelope) - 2)
    part = np.minimum(bins - low, 1.0)[:, None]
    moved = envelope[low] * (1 - part) + envelope[low + 1] * part
    return np.exp(np.clip(moved - envelope, -6.0, 6.0)).astype(np.float32)


def coloured_noise(length: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of unit power with a random spectral slope, from blue over white and pink to brown."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 40.0)
    noise = np.fft.irfft(spectrum * frequency ** -generator.uniform(-0.3, 1.2), length)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def babble(length: int, voices: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Several people talking at once, unit power; `voices` are recordings to draw from."""
    mix = np.zeros(length, np.float32)
    for _ in range(generator.integers(2, 7)):
        voice = voices[int(generator.integers(len(voices)))]
        repeated = np.resize(np.roll(voice, generator.integers(len(voice))), length)
        mix += repeated / (repeated.std() + 1e-6) * generator.uniform(0.4, 1.0)
    return mix / (mix.std() + 1e-9)


def add_noise(waveform: np.ndarray, noise: np.ndarray, ratio: float) -> np.ndarray:
    """Add unit-power `noise`, `ratio` dB below the louder parts of the speech."""
    level = speech_level(waveform)
    return (waveform + noise * level * 10 ** (-ratio / 20)).astype(np.float32)


def speech_level(waveform: np.ndarray) -> float:
    """Root mean square of the louder half of the sound, so that pauses do not count."""
    frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
    if not len(frames):
        return float(np.sqrt((waveform**2).mean() + 1e-12))
    power = np.sort((frames**2).mean(1))
    return float(np.sqrt(power[len(power) // 2 :].mean() + 1e-12))


def room(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A reverberant room: direct sound, then noise that decays by 60 dB in 0.1 to 0.8 s."""
    decay = generator.uniform(0.1, 0.8)
    length = int(decay * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = generator.standard_normal(length) * 10 ** (-3 * time / decay)
    tail[: generator.integers(16, 160)] = 0  # the first reflection comes from a metre or more away
    response = tail / (np.sqrt((tail**2).sum()) + 1e-9) * 10 ** (-generator.uniform(0, 14) / 20)
    response[0] = 1.0
    size = 1 << (len(waveform) + length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size)[: len(waveform)]
    return wet.astype(np.float32)


def equalise(waveform: np.ndarray, generator: np.random.Generator, depth: float = 10.0) -> np.ndarray:
    """Another microphone: a smooth random frequency response of about +- `depth` dB."""
    knots = generator.uniform(-depth, depth, 7)
    return shape_spectrum(waveform, np.geomspace(60, SAMPLE_RATE / 2, 7), knots)


def band(waveform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep `low` to `high` Hz: 300 to 3400 is a telephone, 0 to 4000 a strongly compressed file."""
    low, high = max(low, 1.0), min(high, SAMPLE_RATE / 2 - 1)
    points = np.array([low / 2, low, high, min(high * 1.25, SAMPLE_RATE / 2)])
    return shape_spectrum(waveform, points, np.array([-45.0 if low > 20 else 0.0, 0.0, 0.0, -60.0]))


def shape_spectrum(waveform: np.ndarray, frequencies: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """Filter with zero phase by a gain given at some frequencies and interpolated on a logarithmic axis."""
    axis = np.log(np.maximum(np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE), 1.0))
    gain = 10 ** (np.interp(axis, np.log(frequencies), decibels) / 20)
    return np.fft.irfft(np.fft.rfft(waveform) * gain, len(waveform)).astype(np.float32)


def compress(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What lossy coding does to speech: bins far below the loudest of their frame vanish."""
    spectrum = librosa.stft(waveform, n_fft=512, hop_length=256)
    magnitude = np.abs(spectrum)
    floor = magnitude.max(0, keepdims=True) * 10 ** (-generator.uniform(24, 45) / 20)
    result = librosa.istft(np.where(magnitude < floor, 0, spectrum), hop_length=256, n_fft=512, length=len(waveform))
    return result.astype(np.float32)


def change_channel(
    waveform: np.ndarray, generator: np.random.Generator, voices: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """A random way from mouth to file: room, noise, microphone, band, overload, coding, level."""

    def happens(probability: float) -> bool:
        return bool(generator.random() < probability)

    if happens(0.4):
        waveform = room(waveform, generator)
    if happens(0.6):
        noise = (
            babble(len(waveform), voices, generator)
            if len(voices) and happens(0.3)
            else coloured_noise(len(waveform), generator)
        )
        waveform = add_noise(waveform, noise, generator.uniform(3, 40))
    if happens(0.6):
        waveform = equalise(waveform, generator)
    if happens(0.25):
        waveform = band(waveform, generator.choice([0.0, 80.0, 200.0, 300.0]), generator.uniform(3000, 7500))
    if happens(0.15):
        peak = np.abs(waveform).max() + 1e-9
        waveform = np.clip(waveform, -peak * generator.uniform(0.15, 0.6), peak * generator.uniform(0.15, 0.6))
    if happens(0.2):
        waveform = compress(waveform, generator)
    gain = 10 ** (generator.uniform(-30, 0) / 20) / (np.abs(waveform).max() + 1e-6)
    return (waveform * gain).astype(np.float32)
