"""Mouth shapes of real speech as rig expressions, learnt from talking clips with landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from ..errors import InputError
from ..landmarks import FACE_UNIT, LOWER_FACE, LOWER_POINTS, crop_transform, mouth_opening, transform_points
from .rig import Rig

# Shapes that speech uses; both sides move alike.
SPEECH_SHAPES = (
    "jawOpen", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthUpperUp", "mouthLowerDown", "mouthStretch", "mouthSmile", "mouthFrown", "mouthPress",
)  # fmt: skip
RIDGE = 0.06  # face units per unit of weight
COSTLY = ("mouthUpperUp", "mouthRollUpper")  # together they cancel in the landmarks and bare the gums
FRAMES_PER_CLIP = 6


def speech_shapes(rig: Rig, displacements: np.ndarray) -> np.ndarray:
    """Non-negative expression weights whose landmarks move like the displacements.

    Shape:
        displacements: (N, 37, 2) face units from the resting closed mouth, y down.
        returns:       (N, E) float32 rig expression weights.
    """
    eyes = rig.neutral[rig.landmarks[[36, 39, 42, 45]]]
    unit = float(np.linalg.norm(eyes[:2].mean(0)[:2] - eyes[2:].mean(0)[:2]))  # centimetres of one face unit
    tables = np.stack([rig.weights({name: 1.0}) for name in SPEECH_SHAPES])
    moves = np.stack([rig.moved(row)[rig.landmarks[LOWER_FACE], :2] for row in tables]) / unit * np.array([1.0, -1.0])
    importance = np.ones(LOWER_POINTS)
    importance[:17] = 0.3
    importance[29:] = 1.5
    ridge = RIDGE * np.array([3.0 if name in COSTLY else 1.0 for name in SPEECH_SHAPES])
    a = np.vstack([(moves * importance[None, :, None]).reshape(len(tables), -1).T, np.diag(ridge)])
    zeros = np.zeros(len(tables))
    rows = (displacements * importance[None, :, None]).reshape(len(displacements), -1)
    solved = np.stack([nnls(a, np.concatenate([row, zeros]))[0] for row in rows])
    return (np.clip(solved, 0, 1.2) @ tables).astype(np.float32)  # type: ignore[no-any-return]


def speech_bank(rig: Rig, landmarks_file: Path, clips: set[str], seed: int) -> np.ndarray:
    """Mouth shapes (N, E) sampled from the talking clips named in `clips`; wide mouths are drawn more often.

    Raises:
        InputError: if the file is missing.
    """
    if not landmarks_file.is_file():
        raise InputError(f"no talking clips at {landmarks_file}; give a data folder that holds grid/landmarks.npz")
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    with np.load(landmarks_file, allow_pickle=False) as file:
        names, valid, points = file["clips"], file["valid"], file["landmarks68"]
    for name, seen, clip in zip(names, valid, points, strict=True):
        if str(name) not in clips or seen.sum() < 40:
            continue
        frames = clip[seen].astype(np.float64)
        aligned = np.stack([transform_points(crop_transform(f), f) for f in frames]) / FACE_UNIT
        opening = mouth_opening(aligned)
        rest = aligned[opening <= np.quantile(opening, 0.15)].mean(0)
        weight = 0.02 + np.clip(opening - opening.min(), 0, None)
        picked = rng.choice(len(frames), FRAMES_PER_CLIP, replace=False, p=weight / weight.sum())
        chosen.append((aligned[picked] - rest)[:, LOWER_FACE])
    if not chosen:
        raise InputError(f"{landmarks_file} holds no usable talking clip")
    return speech_shapes(rig, np.concatenate(chosen))
