"""Find faces and their landmarks in a picture; the only file that knows the detector."""

from __future__ import annotations

import numpy as np

from .landmarks import CROP_SIZE, EYE_LINE, FACE_UNIT, LEFT_EYE, RIGHT_EYE, crop_transform

# Eye centres, nose tip and mouth corners in the canonical crop: mean of 2,257 aligned photographs, mirrored and averaged.
FIVE_TEMPLATE = np.array(
    [[-0.508, -0.013], [0.508, -0.013], [0.0, 0.538], [-0.446, 1.071], [0.446, 1.071]]
) * FACE_UNIT + (CROP_SIZE / 2, EYE_LINE)

# The part of the canonical crop that the landmark network sees: brows to chin of an open mouth, ear to ear.
WINDOW_CENTRE = np.array([128.0, 150.0])
WINDOW_SIDE = 222.6


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip, mouth corners of landmarks (..., 68, 2): (..., 5, 2)."""
    eyes = landmarks[..., LEFT_EYE, :].mean(-2), landmarks[..., RIGHT_EYE, :].mean(-2)
    return np.stack([*eyes, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], -2)


def window_transform(matrix: np.ndarray, size: int) -> np.ndarray:
    """Continue a transform into the canonical crop to the landmark network's crop of `size` pixels."""
    zoom = size / WINDOW_SIDE
    result = matrix * zoom
    result[:, 2] += (size - 1) / 2 - WINDOW_CENTRE * zoom
    return result


def fine_transform(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Similarity from picture pixels to the landmark network's crop, by known landmarks."""
    return window_transform(crop_transform(landmarks), size)
