"""The shipped speech network on real people: does the mouth follow, close and rest as theirs does?

GRID dev clips are of the speaker it was trained on, in sentences it has not heard. The `*_av` clips show people it has
never seen; their landmarks are needed as `<clip>.npz` (lm: (T, 68, 2) pixels) in `$EMOTALK_TEACHER_LANDMARKS`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalk.audio import mfcc_windows, read_audio
from emotalk.landmarks import FACE_UNIT, mouth_opening
from emotalk.nets.audio2landmark import Audio2Landmark
from emotalk.speech_corpus import Clip, canonical, read_grid
from emotalk.stages.audio2landmark import best_lag, measure_clip, opening_of, trial
from emotalk.weights import load_network

pytestmark = pytest.mark.real
SHARED = Path(__file__).parents[3] / "shared"
# The sound of these copies lies this many frames behind the picture: two copies of one recording, wild_aoc and
# wild_face3, differ by two frames, and the network's own lag differs by as much between them.
SOUND_LATE = {"mead_M003_disgusted_L1_av": 5, "wild_aoc_av": 3, "wild_face3_av": 1, "wild_face5_av": 0}


@pytest.fixture(scope="module")
def network() -> Audio2Landmark:
    return load_network("audio2landmark")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    source = SHARED / "grid"
    if not source.is_dir():
        pytest.skip(f"{source} is absent")
    folder = tmp_path_factory.mktemp("grid")
    for name in ("alignments.csv", "clips"):
        (folder / name).symlink_to(source / name)
    with np.load(source / "landmarks.npz") as data:
        keep = np.arange(9, len(data["clips"]), 10)
        np.savez(folder / "landmarks.npz", **{k: data[k][keep] for k in ("clips", "landmarks68", "valid")})
    lines = (source / "split.csv").read_text().splitlines()
    (folder / "split.csv").write_text("\n".join(lines))
    return [clip for clips in read_grid(folder).values() for clip in clips if clip.name in dev_names(lines)]


def dev_names(lines: list[str]) -> set[str]:
    return {line.split(",")[0] for line in lines[1:] if line.split(",")[1] == "dev"}


def test_mouth_follows_the_training_voice_in_new_sentences(network: Audio2Landmark, dev: list[Clip]) -> None:
    rows = [measure_clip(network, *trial(clip, None)) for clip in dev]
    mean = {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]}
    print(mean)
    assert len(rows) > 50
    assert mean["correlation"] >= 0.85
    assert np.mean([abs(row["lag"]) <= 1 for row in rows]) >= 0.95
    assert mean["bilabials_closed"] >= 0.8
    assert abs(mean["opening_in_silence"]) < 0.02
    assert 0.7 < mean["amplitude"] < 1.2
    assert mean["jitter"] < 1.2


def test_mouth_follows_people_never_seen(network: Audio2Landmark) -> None:
    folder = os.environ.get("EMOTALK_TEACHER_LANDMARKS")
    if folder is None:
        pytest.skip("EMOTALK_TEACHER_LANDMARKS is not set")
    found = {}
    for path in sorted((SHARED / "clips").glob("*_av.mp4")):
        landmarks = np.load(Path(folder) / f"{path.stem}.npz")["lm"].astype(np.float64)
        wanted = mouth_opening(canonical(landmarks)) / FACE_UNIT
        windows = torch.from_numpy(mfcc_windows(read_audio(path).samples, 25.0))[None]
        opening = opening_of(network.displacements(windows))[0].numpy()
        late = SOUND_LATE[path.stem]
        count = min(len(wanted), len(opening) - late)
        found[path.stem] = float(np.corrcoef(opening[late : late + count], wanted[:count])[0, 1])
    print(found)
    assert found, f"no *_av.mp4 in {SHARED / 'clips'}"
    assert np.mean(list(found.values())) >= 0.4


def test_speech_of_every_kind_moves_the_mouth_and_silence_does_not(network: Audio2Landmark) -> None:
    paths = sorted(p for p in (SHARED / "speech" / "demos").glob("*") if p.suffix in {".wav", ".mp3", ".m4a"})
    if not paths:
        pytest.skip(f"{SHARED / 'speech' / 'demos'} is absent")
    for path in paths:
        samples = read_audio(path).samples
        windows = torch.from_numpy(mfcc_windows(samples, 25.0))[None]
        motion = network.displacements(windows)[0]
        opening = opening_of(motion).numpy()
        assert np.isfinite(opening).all()
        assert 0.02 < opening.std() < 0.12, path.name
        assert opening.max() < 0.4, path.name
        assert motion.abs().max() < 0.5, path.name
        quiet = windows[0, :, 5:25, 0].amax(1).numpy() < -2.5  # pauses of 0.4 s, not the stops within words
        if quiet.sum() > 5:
            assert np.median(opening[quiet]) < 0.03, path.name
    still = network.displacements(torch.from_numpy(mfcc_windows(np.zeros(32_000, np.float32), 25.0))[None])
    assert float(opening_of(still).abs().max()) < 0.03


def test_lag_is_nought_on_the_training_voice(network: Audio2Landmark, dev: list[Clip]) -> None:
    lags = []
    for clip in dev[:30]:
        _, windows, motion = trial(clip, None)
        lags.append(best_lag(opening_of(network.displacements(windows))[0].numpy(), opening_of(motion).numpy()))
    assert abs(np.mean(lags)) < 0.5
