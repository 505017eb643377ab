"""Feelings over time and a face that is alive, with the shipped weights on the shipped portrait, measured by landmarks.

The landmarks are those of the shipped detector, which knows nothing of the edits.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from emotalk.conditions import Feeling
from emotalk.image import read_image
from emotalk.life import POSE
from emotalk.pipeline import Pipeline
from emotalk.scene import CloseUp
from emotalk.weights import ASSETS

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (ASSETS / "neutral2emotion.safetensors").is_file(), reason="the package holds no weights of neutral2emotion"
    ),
]
EMOTIONS = ["angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised"]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline("cpu", landmarks="shipped", offline=True)


def seen(pipe: Pipeline, pictures: list[np.ndarray]) -> np.ndarray:
    """(N, 68, 2) landmarks found in pictures, distance of the eyes = 1."""
    found = np.stack([pipe.find_landmarks(picture, 1, "a still") for picture in pictures])
    eyes = np.linalg.norm(found[0, 36:42].mean(0) - found[0, 42:48].mean(0))
    return found / eyes


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_ramp_rises_without_steps(pipe: Pipeline, sample_face: Path, emotion: str) -> None:
    levels = np.linspace(0, 3, 25)
    feelings = [Feeling.of(emotion, float(level)) for level in levels]
    stills = list(pipe.emotional_faces(sample_face, feelings))
    points = seen(pipe, stills)
    way = points[-1] - points[0]
    strength = ((points - points[0]) * way).sum((1, 2)) / (way**2).sum()
    jumps = [np.abs(b.astype(int) - a).mean() for a, b in pairwise(stills)]
    rank = float(spearmanr(levels, strength)[0])
    print(f"{emotion}: rank correlation {rank:.3f}, largest jump {max(jumps) / np.median(jumps):.2f} of the median")
    assert rank >= 0.98
    assert max(jumps) <= 3 * np.median(jumps)


def test_blends_lie_between_their_parents(pipe: Pipeline, sample_face: Path) -> None:
    wishes = ["happy", "surprised", "happy=0.5,surprised=0.5"]
    happy, surprised, both = seen(
        pipe, list(pipe.emotional_faces(sample_face, [Feeling.of(wish, 3) for wish in wishes]))
    )
    share = ((both - happy) * (surprised - happy)).sum() / ((surprised - happy) ** 2).sum()
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("emotion", ["neutral", "happy", "sad"])
def test_lids_close(pipe: Pipeline, sample_face: Path, emotion: str) -> None:
    close_up = CloseUp(pipe.find(read_image(sample_face)))
    faces, feeling = pipe.expressions(close_up.part), Feeling.of(emotion, 2)
    pictures = [faces.enliven(faces.face(feeling).picture, feeling, lids, 0.0) for lids in (0.0, 0.5, 1.0)]
    points = seen(pipe, pictures)
    heights = [
        np.mean([np.linalg.norm(frame[a] - frame[b]) for a, b in ((37, 41), (38, 40), (43, 47), (44, 46))])
        for frame in points
    ]
    print(f"{emotion}: eyes open by {np.round(heights, 3)}")
    assert heights[0] > heights[1] > heights[2]
    assert heights[2] < 0.7 * heights[0]


def test_the_head_turns_as_far_as_asked(pipe: Pipeline, sample_face: Path) -> None:
    close_up = CloseUp(pipe.find(read_image(sample_face)))
    before = close_up.part.picture
    frames = {}
    for name, size in (("yaw", 4.0), ("roll", 1.0), ("right", 0.04)):
        frame = before.copy()
        close_up.turn(frame, np.array([size if part == name else 0.0 for part in POSE]))
        frames[name] = frame
    rest, *moved = seen(pipe, [before, *frames.values()])
    yaw, _, right = (points - rest for points in moved)
    assert yaw[30, 0] > yaw[[0, 16], 0].mean() + 0.02  # the nose passes before the cheeks
    assert right.mean(0) == pytest.approx([0.04, 0.0], abs=0.012)
