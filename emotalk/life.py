"""What a living face does while it talks: blinks, brows that stress words, a head that is never quite still. No pixels.

Everything is laid out on a fixed time line of its own and read off at the times of the frames, so another frame rate
shows the same life, and everything random comes from the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RATE = 100.0  # steps per second of the time line

# Blinks. People blink 10 to 25 times a minute while they talk, in bouts, often where a phrase ends (Bentivoglio et al.,
# 1997; Cummins, 2012). A lid closes in about 0.1 s and opens in about 0.2 s, slower and slower.
FIRST_BLINK = (0.5, 2.2)  # seconds
SHORTEST_PAUSE = 1.4  # seconds between two blinks
MEAN_PAUSE = 3.9
DOUBLE_BLINKS = 0.07  # share that is followed by a second one at once
DOUBLE_AFTER = (0.42, 0.55)  # seconds
LID_CLOSE, LID_HOLD, LID_OPEN = 0.10, 0.03, 0.17  # seconds, of an average blink
LID_VARIATION = 0.12
OPEN_TAIL = 1.3  # above 1: lids open quickly at first, then slower and slower
BLINK_SECONDS = (LID_CLOSE + LID_HOLD + LID_OPEN) * (1 + LID_VARIATION)
BLINK_CLEARANCE = 0.08  # seconds around the closed lids in which lips should not close
BLINK_SHIFTS = np.arange(0.0, 0.61, 0.04)  # seconds a blink may be moved to find such a moment

# Head. Turns in degrees, shifts in distances of the eyes; typical sizes while talking.
POSE = ("yaw", "pitch", "roll", "right", "down", "nearer")
POSE_SIZES = np.array([2.6, 1.5, 1.3, 0.022, 0.012, 0.008])
POSE_LIMITS = 2.2 * POSE_SIZES
NOD = np.array([0.0, 1.7, 0.0, 0.0, 0.022, 0.0])  # on an emphasised syllable
POSTURE_PAUSE = (0.7, 1.9)  # seconds between two postures that the head strives for
POSTURE_HERTZ = 0.55  # natural frequencies of the critically damped motion
NOD_HERTZ = 1.6
QUIET = 0.12  # how much of the motion is left in silence
BROW_SECONDS = 0.16  # rise of a brow; it falls twice as slowly
EMPHASIS_PAUSE = 0.55  # seconds between two emphases, at least
EMPHASIS_LEVEL = 0.25  # of the loudness of loud speech, above the neighbourhood


@dataclass(frozen=True, slots=True)
class Life:
    """Motion beside speech, frame by frame.

    Shape:
        lids: (T,) 0 open, 1 closed. brows: (T,) 0 at rest, 1 raised. pose: (T, 6), see `POSE`.
    """

    lids: np.ndarray
    brows: np.ndarray
    pose: np.ndarray

    @classmethod
    def still(cls, frames: int) -> Life:
        """No motion at all."""
        return cls(np.zeros(frames), np.zeros(frames), np.zeros((frames, len(POSE))))

    @classmethod
    def of(cls, loudness: np.ndarray, lips_closed: np.ndarray, frames: int, fps: float, seed: int) -> Life:
        """Life that fits a recording.

        Shape:
            loudness:    (n,) on the time line of `RATE`, see `loudness_of`.
            lips_closed: (frames,) bool, whether the speech closes the lips.
        """
        blinking, moving = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
        seconds = frames / fps
        at = (np.arange(frames) + 0.5) / fps
        steps = max(2, math.ceil(seconds * RATE) + 1)
        loud = np.interp(np.arange(steps), np.arange(len(loudness)), loudness, right=0.0)
        line = np.arange(steps) / RATE
        closed = np.interp(line, at, lips_closed.astype(float)) > 0.5
        stressed = emphases(loud)
        blinks = blink_times(seconds, closed & (loud > 0.1), loud, blinking)
        pose = head_track(loud, stressed, moving)
        return cls(
            lids=lid_track(blinks, at, blinking),
            brows=brow_track(stressed, at, moving),
            pose=np.stack([np.interp(at, line, part) for part in pose.T], axis=1),
        )


def loudness_of(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """How loud speech is, 0 in silence and about 1 at its loudest, without the recording's own level.

    Shape:
        samples: (n,). returns: (steps,) on the time line of `RATE`.
    """
    size = round(sample_rate / RATE)
    whole = len(samples) // size
    rows = samples[: whole * size].reshape(whole, size)
    power = np.append(np.einsum("ij,ij->i", rows, rows) / size, 0.0)
    power = smooth(power, 0.03)
    loudest = float(np.quantile(power, 0.97))
    if loudest <= 0:
        return np.zeros(len(power))
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-8))
    return smooth(np.clip(1 + decibels / 30, 0.0, 1.2), 0.04)


def smooth(line: np.ndarray, seconds: float) -> np.ndarray:
    """A Gaussian mean over about `seconds` to either side; ends are held."""
    reach = max(1, round(3 * seconds * RATE))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * RATE)) ** 2)
    return np.convolve(np.pad(line, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def emphases(loudness: np.ndarray) -> np.ndarray:
    """Steps of the time line at which a syllable stands out from its neighbourhood."""
    accent = smooth(loudness, 0.06) - smooth(loudness, 0.5)
    peaks = np.flatnonzero((accent[1:-1] > accent[:-2]) & (accent[1:-1] >= accent[2:]) & (accent[1:-1] > 0)) + 1
    peaks = peaks[accent[peaks] > EMPHASIS_LEVEL * max(float(loudness.max()), 1e-9)]
    kept: list[int] = []
    for peak in peaks[np.argsort(-accent[peaks], kind="stable")]:
        if all(abs(peak - other) >= EMPHASIS_PAUSE * RATE for other in kept):
            kept.append(int(peak))
    return np.array(sorted(kept), int)


def blink_times(seconds: float, lips_closed: np.ndarray, loudness: np.ndarray, rng: np.random.Generator) -> list[float]:
    """When blinks begin: at human intervals, drawn to pauses, away from lips that close."""
    times: list[float] = []
    time = rng.uniform(*FIRST_BLINK)
    while time < seconds - BLINK_SECONDS:
        moved = _best_moment(time, lips_closed, loudness)
        if moved + BLINK_SECONDS < seconds and (not times or moved - times[-1] > BLINK_SECONDS):
            times.append(moved)
        double = rng.random() < DOUBLE_BLINKS
        pause = SHORTEST_PAUSE + rng.gamma(2.0, (MEAN_PAUSE - SHORTEST_PAUSE) / 2)
        time += rng.uniform(*DOUBLE_AFTER) if double else pause
    return times


def _best_moment(time: float, lips_closed: np.ndarray, loudness: np.ndarray) -> float:
    """A moment near `time` for closed lids: free of closing lips first, then as quiet and near as can be."""
    best, least = time, math.inf
    for shift in BLINK_SHIFTS:
        for moment in (time + shift, time - shift):
            if moment < 0:
                continue
            middle = moment + LID_CLOSE + LID_HOLD / 2
            low = max(0, round((middle - BLINK_CLEARANCE) * RATE))
            high = round((middle + BLINK_CLEARANCE) * RATE) + 1
            if low >= len(lips_closed):
                continue
            cost = 10 * lips_closed[low:high].mean() + 0.6 * loudness[low:high].mean() + abs(shift)
            if cost < least - 1e-9:
                best, least = moment, float(cost)
    return best


def lid_track(blinks: list[float], at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How far the lids are closed at the times of the frames.

    Shape:
        at: (T,) seconds. returns: (T,) in [0, 1].
    """
    lids = np.zeros(len(at))
    for begin in blinks:
        close, hold, opening = np.array([LID_CLOSE, LID_HOLD, LID_OPEN]) * (1 + LID_VARIATION * rng.uniform(-1, 1, 3))
        since = at - begin
        down = np.clip(since / close, 0.0, 1.0)
        up = 1.0 - np.clip((since - close - hold) / opening, 0.0, 1.0)
        lids = np.maximum(lids, down * down * (3 - 2 * down) * (up * up * (3 - 2 * up)) ** OPEN_TAIL)
    return lids


def brow_track(stressed: np.ndarray, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How far the brows are raised at the times of the frames: at some of the emphases, quickly up and slowly down.

    Shape:
        stressed: (N,) steps of the time line; at: (T,) seconds. returns: (T,) in [0, 1].
    """
    brows = np.zeros(len(at))
    for step, strength in zip(stressed, rng.uniform(-0.6, 1.0, len(stressed)), strict=True):
        since = (at - step / RATE) / BROW_SECONDS
        since = np.where(since > 0, since / 2, since)
        brows = np.maximum(brows, max(strength, 0.0) * np.exp(-0.5 * (1.6 * since) ** 2))
    return brows


def head_track(loudness: np.ndarray, stressed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pose of the head: postures that change while it talks, nods on emphases, near rest in silence.

    It begins at rest, as the photograph shows it, and is smooth: every part is the answer of a critically damped system
    of second order.

    Shape:
        returns: (steps, 6), see `POSE`.
    """
    steps = len(loudness)
    activity = QUIET + (1 - QUIET) * np.clip(smooth(loudness, 0.35) * 1.5, 0.0, 1.0)
    targets = np.zeros((steps, len(POSE)))
    begin = 0
    while begin < steps:
        end = begin + round(rng.uniform(*POSTURE_PAUSE) * RATE)
        targets[begin:end] = np.clip(rng.normal(0, 0.75, len(POSE)), -1.5, 1.5) * POSE_SIZES
        begin = end
    nods = np.zeros(steps)
    for step, strength in zip(stressed, rng.uniform(0.4, 1.0, len(stressed)), strict=True):
        first = max(0, step - round(0.10 * RATE))
        nods[first : step + round(0.12 * RATE)] = strength
    pose = damped(damped(targets * activity[:, None], POSTURE_HERTZ * 2), POSTURE_HERTZ)
    pose = pose + damped(damped(nods, NOD_HERTZ * 2), NOD_HERTZ)[:, None] * NOD
    return np.clip(pose, -POSE_LIMITS, POSE_LIMITS)


def damped(target: np.ndarray, hertz: float) -> np.ndarray:
    """The answer of a critically damped system at rest to a target that moves.

    Shape:
        target: (steps, ...). returns: the same.

    Source:
        w^2 / (s + w)^2 with the target held over each step: exact, so stable at any frequency.
    """
    from scipy.signal import lfilter

    step = 2 * math.pi * hertz / RATE
    decay = math.exp(-step)
    fresh = [0.0, 1 - decay * (1 + step), decay * (decay + step - 1)]
    return lfilter(fresh, [1.0, -2 * decay, decay * decay], target, axis=0)
