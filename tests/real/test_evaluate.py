"""`evaluate` on real people: does the sync measure know the true track, and do the numbers of real video make sense?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotalk.evaluation.clip import Clip, Listener, loudness, read_clip
from emotalk.evaluation.items import Item
from emotalk.evaluation.measure import Evaluator
from emotalk.face import FaceFinder
from emotalk.metrics import MOST_LAG, best_lag, lag_correlations

pytestmark = pytest.mark.real
CLIPS = Path(__file__).parents[3] / "shared" / "clips"
# The sound of these copies lies this many frames behind the picture; see tests/real/test_audio2landmark.py.
SOUND_LATE = {"mead_M003_disgusted_L1_av": 5, "wild_aoc_av": 3, "wild_face3_av": 1, "wild_face5_av": 0}


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    paths = [CLIPS / f"{name}.mp4" for name in SOUND_LATE]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"{CLIPS} is absent")
    finder = FaceFinder("shipped")
    return {path.stem: read_clip(path, finder) for path in paths}


def test_the_true_track_beats_tracks_shifted_by_up_to_five_frames(clips: dict[str, Clip]) -> None:
    """On speakers that no network was trained on."""
    listener = Listener()
    curves = {"network": [], "energy": []}  # type: ignore[var-annotated]
    for name, clip in clips.items():
        for kind, expected in (("network", listener.opening(clip)), ("energy", loudness(clip))):
            found = lag_correlations(clip.opening, expected)
            true = MOST_LAG - SOUND_LATE[name]  # sound late: the picture comes first
            curves[kind].append(found[true - 5 : true + 6])
            print(name, kind, best_lag(found), np.round(found[true - 5 : true + 6], 2))
    for kind, found in curves.items():
        mean = np.mean(found, axis=0)
        print(kind, np.round(mean, 3))
    network = np.mean(curves["network"], axis=0)
    assert network[5] > max(network[0], network[10]) + 0.05
    assert abs(int(network.argmax()) - 5) <= 1


def test_real_video_has_the_numbers_of_real_video() -> None:
    happy, neutral = CLIPS / "mead_W009_happy_L3.mp4", CLIPS / "mead_W009_neutral_L1.mp4"
    if not happy.is_file():
        pytest.skip(f"{CLIPS} is absent")
    evaluator = Evaluator("shipped", offline=True)
    video, real = evaluator.measure(Item(happy, neutral))
    assert video.error is None and real is not None and real.error is None
    print(video.values, real.values)
    assert video.values["faces"] == real.values["faces"] == 100
    assert 15 < video.values["psnr"] < 35 and 0.4 < video.values["ssim"] < 0.95
    assert 0.5 < video.values["m_lmd"] < 15
    assert 0.2 < video.values["jitter"] < 4
    assert video.missing["sync_correlation"] == "no sound track"
