"""Numbers that say how good a talking video is: pure functions of arrays, and a table of what each number means.

One name hides many protocols in this field, so every entry of `METRICS` says its range, which direction is better, how
it is computed and after whom. Landmarks are (T, 68, 2), x then y; a frame without a face is NaN and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .errors import InputError
from .landmarks import (
    CROP_SIZE,
    FACE_UNIT,
    LEFT_BROW,
    LEFT_EYE,
    MOUTH,
    RIGHT_BROW,
    RIGHT_EYE,
    crop_transform,
    mouth_opening,
    transform_points,
)

SSIM_WINDOW = 7  # pixels, as scikit-image's default
MOST_LAG = 15  # frames searched to either side for the best sync
LEAST_OVERLAP = 20  # frames that two tracks must share for a correlation
CLOSED_OPENING = 0.05  # face units; lips below it count as closed (median the detector sees on closed lips: 0.02)
DRIFT_SECONDS = 6.0  # shorter clips have no beginning and end to compare
CHANGED_LEVELS = 8.0  # grey levels; more than video compression does to a still background
HEAD_MARGIN = 0.5  # of the face box, on every side: hair, ears and neck belong to the head


@dataclass(frozen=True, slots=True)
class Metric:
    """What one number means.

    Attributes:
        better: "higher", "lower", or "near 0" and the like.
        group: heading in the tables.
    """

    key: str
    title: str
    unit: str
    span: str
    better: str
    group: str
    protocol: str
    source: str
    digits: int = 3


CROP = "canonical 256-pixel crop, one for the whole video from its median landmarks, 64 pixels between the eyes"
_PAIR, _FACE, _SYNC, _PICTURE, _FEEL = "against the real video", "landmarks", "speech", "picture", "emotion"

METRICS: Mapping[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("psnr", "PSNR", "dB", "0 to inf", "higher", _PAIR,
               f"mean over frames of both videos side by side in time; {CROP}", "Wang et al. 2004; as scikit-image", 2),
        Metric("ssim", "SSIM", "", "-1 to 1", "higher", _PAIR,
               f"colour, uniform 7x7 window, as scikit-image; mean over frames; {CROP}", "Wang et al. 2004"),
        Metric("psnr_full", "PSNR, whole picture", "dB", "0 to inf", "higher", _PAIR,
               "pixels as they are, no alignment; only for videos of one size", "as scikit-image", 2),
        Metric("ssim_full", "SSIM, whole picture", "", "-1 to 1", "higher", _PAIR,
               "pixels as they are, no alignment; only for videos of one size", "Wang et al. 2004"),
        Metric("m_lmd", "M-LMD", "px of 256", "0 to inf", "lower", _PAIR,
               f"20 mouth points, centred by their own mean, both videos resampled to the shorter; {CROP}",
               "EAT (Gan et al., ICCV 2023), its evaluation script; other detector"),
        Metric("f_lmd", "F-LMD", "px of 256", "0 to inf", "lower", _PAIR,
               f"68 points, centred by their own mean, both videos resampled to the shorter; {CROP}",
               "EAT (Gan et al., ICCV 2023), its evaluation script; other detector"),
        Metric("lvd", "LVD", "px of 256 per frame", "0 to inf", "lower", _PAIR,
               f"F-LMD of the differences between frames; {CROP}", "EAT (Gan et al., ICCV 2023); other detector"),
        Metric("m_lmd_scaled", "M-LMD, scaled", "% of eye distance", "0 to inf", "lower", _PAIR,
               "as M-LMD, each video divided by its own median eye distance, frames side by side in time",
               "emotalk", 2),
        Metric("f_lmd_scaled", "F-LMD, scaled", "% of eye distance", "0 to inf", "lower", _PAIR,
               "as F-LMD, each video divided by its own median eye distance, frames side by side in time",
               "emotalk", 2),
        Metric("lvd_scaled", "LVD, scaled", "% of eye distance per frame", "0 to inf", "lower", _PAIR,
               "as LVD, each video divided by its own median eye distance, frames side by side in time", "emotalk", 2),
        Metric("opening_correlation", "mouth opening against real", "", "-1 to 1", "higher", _PAIR,
               "Pearson correlation of the inner lips' distance, frames side by side in time", "emotalk"),
        Metric("jitter_ratio", "jitter / real", "", "0 to inf", "near 1", _PAIR,
               "jitter of the video divided by jitter of the real video", "emotalk", 2),
        Metric("sharpness_ratio", "sharpness / original", "", "0 to inf", "near 1", _PAIR,
               "sharpness divided by that of the source photograph, or else of the real video", "emotalk", 2),
        Metric("length_difference", "length - real", "s", "-inf to inf", "near 0", _PAIR,
               "seconds of picture, video minus real video", "emotalk", 2),
        Metric("faces", "frames with a face", "%", "0 to 100", "higher", _FACE,
               "share of frames in which the landmark detector finds a face", "emotalk", 1),
        Metric("jitter", "jitter", "% of eye distance", "0 to inf", "near real", _FACE,
               "mean length of the second difference of the landmarks over time, own frame rate; speech moves it too",
               "emotalk", 2),
        Metric("sharpness", "sharpness", "", "0 to inf", "near real", _PICTURE,
               f"median over frames of the variance of the Laplacian of the luma; {CROP}",
               "Pech-Pacheco et al. 2000", 1),
        Metric("background", "background changed", "%", "0 to 100", "lower", _PICTURE,
               f"share of pixels away from the head that differ by more than {CHANGED_LEVELS:g} of 255 levels from the "
               "source photograph, or without one of the same size from the first frame; mean over frames",
               "emotalk", 2),
        Metric("sync_correlation", "sync, our speech network", "", "-1 to 1", "higher", _SYNC,
               "correlation of the mouth opening with what audio2landmark predicts from the sound, at lag 0; the "
               "network that predicts also makes our videos, so read it beside the next one", "emotalk"),
        Metric("sync_lag", "its lag", "ms", "-600 to 600 at 25 fps", "near 0", _SYNC,
               "shift with the best correlation; above 0 the picture comes after the sound", "emotalk", 0),
        Metric("energy_correlation", "sync, sound energy", "", "-1 to 1", "higher", _SYNC,
               "correlation of the mouth opening with the loudness of the speech, at lag 0; no network", "emotalk"),
        Metric("energy_lag", "its lag", "ms", "-600 to 600 at 25 fps", "near 0", _SYNC,
               "shift with the best correlation; above 0 the picture comes after the sound", "emotalk", 0),
        Metric("drift", "drift", "ms", "-1200 to 1200", "near 0", _SYNC,
               f"sync lag of the last third minus that of the first third; clips of {DRIFT_SECONDS:g} s or more",
               "emotalk", 0),
        Metric("lip_closure", "lips closed in silence", "%", "0 to 100", "higher", _SYNC,
               f"share of silent frames with an opening below {CLOSED_OPENING:g} eye distances", "emotalk", 1),
        Metric("sound_difference", "picture - sound", "s", "-inf to inf", "near 0", _SYNC,
               "seconds of picture minus seconds of sound track", "emotalk", 3),
        Metric("strength", "expression strength", "% of eye distance", "0 to inf", "follows intensity", _FEEL,
               "median over frames of the displacement of brows, lids and mouth corners from the source photograph, "
               "which should be neutral; no network", "emotalk, after the facial distances of Pantic & Rothkrantz 2000",
               2),
        Metric("intensity_order", "intensity order", "%", "0 to 100", "higher", _FEEL,
               "share of pairs of videos of one photograph and emotion whose strength follows the wished intensity; "
               "50 is chance", "emotalk, after the ordering question of MEAD's user study", 1),
        Metric("emotion_accuracy", "emotion accuracy", "%", "0 to 100", "higher", _FEEL,
               "share of videos whose mean frame logits are largest for the wished emotion", "EAT (Gan et al., ICCV "
               "2023) takes Emotion-FAN; we take the network named beside", 1),
    )
}  # fmt: skip

# What cannot be computed here, and why: it stands in every table, so that nobody takes silence for a result.
NOT_COMPUTED: Mapping[str, tuple[str, str]] = {
    "fid": (
        "FID",
        "needs ImageNet Inception weights, which this package neither ships nor fetches; torchvision's and the "
        "TensorFlow-ported ones give different numbers",
    ),
    "csim": ("identity (CSIM)", "needs the weights of a face embedder such as ArcFace; none ships, none is fetched"),
    "lse": (
        "SyncNet LSE-C, LSE-D, offset",
        "needs SyncNet's weights (joonson/syncnet_python); not shipped, not fetched; see the two sync rows",
    ),
}


def psnr(picture: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB; inf when they are equal.

    Shape:
        picture, other: (H, W, 3) or (H, W), the same.

    Raises:
        InputError: if the shapes differ.
    """
    _same(picture, other)
    error = float(np.mean((picture.astype(np.float64) - other.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))


def ssim(picture: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity of two uint8 pictures, 1 when they are equal.

    Shape:
        picture, other: (H, W, 3) or (H, W), the same, at least 7x7.

    Raises:
        InputError: if the shapes differ or are too small.

    Source:
        Wang et al., 2004, in the variant of scikit-image's `structural_similarity`: uniform window, sample covariance,
        mean over pixels whose window lies inside. Our own ten lines, so that no dependency is needed; the tests hold
        them to scikit-image.
    """
    _same(picture, other)
    if min(picture.shape[:2]) < SSIM_WINDOW:
        raise InputError(f"pictures of {picture.shape[1]}x{picture.shape[0]} are too small for SSIM")
    x, y = picture.astype(np.float64), other.astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, cv2.CV_64F, (SSIM_WINDOW, SSIM_WINDOW))

    count = SSIM_WINDOW**2
    sample = count / (count - 1)
    mean_x, mean_y = mean(x), mean(y)
    var_x = sample * (mean(x * x) - mean_x**2)
    var_y = sample * (mean(y * y) - mean_y**2)
    both = sample * (mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    edge = SSIM_WINDOW // 2
    return float(value[edge:-edge, edge:-edge].mean())


def _same(picture: np.ndarray, other: np.ndarray) -> None:
    if picture.shape != other.shape:
        raise InputError(f"pictures of shape {picture.shape} and {other.shape} cannot be compared")


def seen(landmarks: np.ndarray) -> np.ndarray:
    """Which frames show a face: (T, P, 2) -> (T,) bool."""
    return np.isfinite(landmarks).all((1, 2))


def eye_distances(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the eye centres in every frame: (T, 68, 2) -> (T,)."""
    gap = landmarks[:, LEFT_EYE].mean(1) - landmarks[:, RIGHT_EYE].mean(1)
    return np.linalg.norm(gap, axis=-1)


def fixed_crop(landmarks: np.ndarray) -> np.ndarray:
    """One transform into the canonical crop for a whole video, by its median landmarks.

    Shape:
        landmarks: (T, 68, 2) pixels. returns: (2, 3).

    Raises:
        InputError: if no frame shows a face.
    """
    good = landmarks[seen(landmarks)]
    if not len(good):
        raise InputError("no frame shows a face")
    return crop_transform(np.median(good, axis=0))


def shorter(track: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both tracks resampled to the length of the shorter one, first frame on first, last on last.

    Source:
        EAT's evaluation script, nearest frame.
    """
    length = min(len(track), len(other))
    return tuple(values[np.linspace(0, len(values) - 1, length).round().astype(int)] for values in (track, other))  # type: ignore[return-value]


def landmark_distance(track: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of the points of two tracks, each frame centred by its own mean; no scale, no rotation.

    LMD in EAT's definition: give the mouth's points for M-LMD, all 68 for F-LMD. Range 0 to inf, lower is better.

    Shape:
        track, other: (T, P, 2) in one unit; frames with NaN in either are left out. NaN if none is left.
    """
    count = min(len(track), len(other))
    track, other = track[:count], other[:count]
    both = seen(track) & seen(other)
    if not both.any():
        return float("nan")
    a, b = (values[both] - values[both].mean(1, keepdims=True) for values in (track, other))
    return float(np.linalg.norm(a - b, axis=-1).mean())


def velocity_distance(track: np.ndarray, other: np.ndarray) -> float:
    """LVD: `landmark_distance` of the differences between frames. Range 0 to inf, lower is better."""
    return landmark_distance(np.diff(track, axis=0), np.diff(other, axis=0))


def mouth(landmarks: np.ndarray) -> np.ndarray:
    """The 20 points of the lips."""
    return landmarks[:, MOUTH]


def scaled(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks in units of the video's own median eye distance."""
    return landmarks / np.nanmedian(eye_distances(landmarks))


def jitter(landmarks: np.ndarray) -> float:
    """Mean length of the second difference over time, in eye distances; NaN below three frames in a row."""
    second = np.diff(scaled(landmarks), 2, axis=0)
    good = seen(second)
    return float(np.linalg.norm(second[good], axis=-1).mean()) if good.any() else float("nan")


def sharpness(picture: np.ndarray) -> float:
    """Variance of the Laplacian of the luma of a uint8 RGB picture. Range 0 to inf, higher is sharper."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def head_mask(height: int, width: int, landmarks: np.ndarray) -> np.ndarray:
    """Pixels away from the head in every frame of a video.

    Shape:
        landmarks: (T, 68, 2) pixels. returns: (height, width) bool, True for background.
    """
    points = landmarks[seen(landmarks)].reshape(-1, 2)
    outside = np.ones((height, width), bool)
    if len(points):
        low, high = points.min(0), points.max(0)
        room = HEAD_MARGIN * (high - low)
        x0, y0 = np.maximum(low - room * (1, 1.6), 0).astype(int)  # landmarks end at the brows: the hair is above
        x1, y1 = np.ceil(high + room).astype(int)
        outside[y0:y1, x0:x1] = False
    return outside


def changed_share(picture: np.ndarray, original: np.ndarray, where: np.ndarray) -> float:
    """Share of pixels of `where` that differ visibly, 0 to 1, lower is better; NaN if there are none."""
    if not where.any():
        return float("nan")
    difference = np.abs(picture.astype(np.int16) - original.astype(np.int16)).max(-1)
    return float((difference[where] > CHANGED_LEVELS).mean())


def canonical_track(landmarks: np.ndarray) -> np.ndarray:
    """Every frame in its own canonical crop, in face units: position, size and tilt of the head are gone.

    Shape:
        landmarks: (T, 68, 2) pixels. returns: (T, 68, 2); NaN where there is no face.
    """
    result = np.full(landmarks.shape, np.nan)
    for index in np.flatnonzero(seen(landmarks)):
        result[index] = transform_points(crop_transform(landmarks[index]), landmarks[index]) / FACE_UNIT
    return result


def opening_track(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the inner lips in face units: (T, 68, 2) pixels -> (T,); gaps of detection are interpolated.

    Raises:
        InputError: if no frame shows a face.
    """
    opening = mouth_opening(canonical_track(landmarks))
    good = np.flatnonzero(np.isfinite(opening))
    if not len(good):
        raise InputError("no frame shows a face")
    return np.interp(np.arange(len(opening)), good, opening[good])


def correlation(track: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of two tracks over their common length; NaN if too short or if one is constant."""
    count = min(len(track), len(other))
    a, b = track[:count], other[:count]
    if count < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def lag_correlations(track: np.ndarray, expected: np.ndarray, most: int = MOST_LAG) -> np.ndarray:
    """Correlation of `track` with `expected` for every lag from -most to most frames.

    At lag k the track is compared with what was expected k frames earlier: k above 0 means the track is late.

    Shape:
        track, expected: (T,). returns: (2 * most + 1,); NaN where fewer than `LEAST_OVERLAP` frames are shared.
    """
    count = min(len(track), len(expected))
    result = np.full(2 * most + 1, np.nan)
    for lag in range(-most, most + 1):
        a = track[max(lag, 0) : count + min(lag, 0)]
        b = expected[max(-lag, 0) : count - max(lag, 0)]
        if len(a) >= LEAST_OVERLAP:
            result[lag + most] = correlation(a, b)
    return result


def best_lag(correlations: np.ndarray) -> int | None:
    """The lag in frames with the highest of `lag_correlations`; None if there is none."""
    if np.isnan(correlations).all():
        return None
    return int(np.nanargmax(correlations)) - len(correlations) // 2


def drift(track: np.ndarray, expected: np.ndarray) -> int | None:
    """Best lag of the last third minus that of the first third, in frames; None if one cannot be told."""
    third = min(len(track), len(expected)) // 3
    count = 3 * third
    first = best_lag(lag_correlations(track[:third], expected[:third]))
    last = best_lag(lag_correlations(track[2 * third : count], expected[2 * third : count]))
    return None if first is None or last is None else last - first


def closed_share(opening: np.ndarray, silent: np.ndarray) -> float:
    """Share of silent frames with closed lips, 0 to 1, higher is better; NaN if no frame is silent.

    Shape:
        opening: (T,) face units; silent: (T,) bool.
    """
    count = min(len(opening), len(silent))
    quiet = silent[:count]
    return float((opening[:count][quiet] < CLOSED_OPENING).mean()) if quiet.any() else float("nan")


def expression_features(landmarks: np.ndarray) -> np.ndarray:
    """Distances that expressions change and head position does not, in face units.

    Brows above the eyes (inner, middle, outer end of both), distance of the inner brows, opening of both eyes, corners
    of the mouth relative to the nose (both axes).

    Shape:
        landmarks: (68, 2) of any similarity transform. returns: (13,).
    """
    points = transform_points(crop_transform(landmarks), landmarks) / FACE_UNIT
    left, right = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)
    brows = [left[1] - points[LEFT_BROW][[0, 2, 4], 1], right[1] - points[RIGHT_BROW][[0, 2, 4], 1]]
    lids = [
        points[[40, 41], 1].mean() - points[[37, 38], 1].mean(),
        points[[46, 47], 1].mean() - points[[43, 44], 1].mean(),
    ]
    corners = points[[48, 54]] - points[33]
    return np.concatenate([*brows, [points[22, 0] - points[21, 0]], lids, corners.ravel()])


def expression_strength(landmarks: np.ndarray, neutral: np.ndarray) -> float:
    """How far a video's face is from its neutral one: median over frames, in eye distances. Range 0 to inf.

    The median over time keeps blinks and single sounds out of it.

    Shape:
        landmarks: (T, 68, 2); neutral: (68, 2). NaN if no frame shows a face.
    """
    frames = [expression_features(frame) for frame in landmarks[seen(landmarks)]]
    if not frames:
        return float("nan")
    return float(np.linalg.norm(np.median(frames, axis=0) - expression_features(neutral)))


def order_share(values: Sequence[float], wished: Sequence[float]) -> tuple[int, int]:
    """Pairs of different wishes whose values are in the same order: how many, of how many."""
    right = total = 0
    for i in range(len(values)):
        for j in range(i):
            if wished[i] != wished[j]:
                total += 1
                right += (values[i] - values[j]) * (wished[i] - wished[j]) > 0
    return right, total


def as_fixed_crop(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks in the one crop of `fixed_crop`: pixels of 256."""
    return transform_points(fixed_crop(landmarks), landmarks)


assert CROP_SIZE == 256  # the protocol texts say so
