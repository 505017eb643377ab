"""From the numbers of single videos to totals, per-emotion rows, confusion matrix and the documented JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import paper
from ..emotions import EMOTIONS, Emotion
from ..metrics import METRICS, NOT_COMPUTED, order_share
from .items import Plan
from .measure import Measured

FORMAT = "emotalk-evaluation/1"
NO_JUDGE = (
    "needs a network that judges emotions (--emotion-network FILE, an ONNX file of HSEmotion); the package ships no "
    "emotion classifier and fetches none"
)
NO_WISH = "no video says which emotion was wished (--emotion, the manifest, or the file name)"
NO_PAIRS = "needs two intensities of one emotion of one photograph (--source)"


@dataclass(frozen=True, slots=True)
class Total:
    """One metric over many videos."""

    mean: float
    deviation: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured."""

    plan: Plan
    videos: Sequence[Measured]
    real: Sequence[Measured]
    judge: str | None
    landmarks: str

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Files that could not be evaluated, and why."""
        return [(str(one.path), one.error) for one in (*self.videos, *self.real) if one.error is not None]

    @property
    def failure_lines(self) -> list[str]:
        """One line for each failure."""
        return [error if path in error else f"{path}: {error}" for path, error in self.failures]

    @property
    def measured(self) -> list[Measured]:
        """Videos that could be evaluated."""
        return [video for video in self.videos if video.error is None]

    def totals(self) -> dict[str, Total]:
        """Every metric over all videos that have it; with the two that need many videos."""
        found = totals(self.measured)
        right, pairs = intensity_order(self.measured)
        if pairs:
            found["intensity_order"] = Total(100 * right / pairs, 0.0, pairs)
        judged = judgements(self.measured)
        if judged:
            hits = [100.0 * (wished == said) for wished, said in judged]
            found["emotion_accuracy"] = Total(float(np.mean(hits)), float(np.std(hits)), len(hits))
        return found

    def real_totals(self) -> dict[str, Total]:
        """The same numbers of the real videos."""
        usable = [one for one in self.real if one.error is None]
        found = totals(usable)
        judged = judgements(usable)
        if judged:
            hits = [100.0 * (wished == said) for wished, said in judged]
            found["emotion_accuracy"] = Total(float(np.mean(hits)), float(np.std(hits)), len(hits))
        return found

    def reasons(self) -> dict[str, str]:
        """Metric -> why not every video has it; of several reasons the most frequent."""
        found: dict[str, str] = {}
        for key in METRICS:
            counted = Counter(video.missing[key] for video in self.measured if key in video.missing)
            if counted:
                reason, count = counted.most_common(1)[0]
                found[key] = reason if count == len(self.measured) else f"{sum(counted.values())} without: {reason}"
        if not intensity_order(self.measured)[1]:
            found["intensity_order"] = NO_PAIRS
        if self.judge is None:
            found["emotion_accuracy"] = NO_JUDGE
        elif not judgements(self.measured):
            found["emotion_accuracy"] = NO_WISH
        if not self.measured:
            found = dict.fromkeys(METRICS, "no video could be evaluated")
        return found

    def by_emotion(self) -> dict[str, dict[str, Total]]:
        """Totals of each wished emotion, in the fixed order; blends after them."""
        order = [emotion.value for emotion in EMOTIONS]
        wishes = {video.item.emotion for video in self.measured if video.item.emotion is not None}
        names = sorted(wishes, key=lambda name: (order.index(name) if name in order else len(order), name))
        return {name: totals([v for v in self.measured if v.item.emotion == name]) for name in names}

    def confusion(self) -> np.ndarray | None:
        """Counts (8, 8): wished down, judged across; None without a judge or wishes."""
        judged = judgements(self.measured)
        if not judged:
            return None
        matrix = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
        for wished, said in judged:
            matrix[Emotion(wished).index, Emotion(said).index] += 1
        return matrix

    def as_facts(self) -> dict[str, Any]:
        """Everything as JSON values; the schema is in the manual."""
        reasons = self.reasons()
        whole, real = self.totals(), self.real_totals()
        matrix = self.confusion()
        return {
            "format": FORMAT,
            "landmarks": self.landmarks,
            "emotion_network": self.judge,
            "videos": [video_facts(video) for video in self.videos],
            "real": [video_facts(video) for video in self.real],
            "total": {
                key: {
                    "mean": whole[key].mean if key in whole else None,
                    "deviation": whole[key].deviation if key in whole else None,
                    "count": whole[key].count if key in whole else 0,
                    "real": real[key].mean if key in real else None,
                    "real_count": real[key].count if key in real else 0,
                    "missing": reasons.get(key),
                }
                for key in METRICS
            },
            "by_emotion": {
                name: {key: {"mean": one.mean, "count": one.count} for key, one in found.items()}
                for name, found in self.by_emotion().items()
            },
            "confusion": None
            if matrix is None
            else {"emotions": [emotion.value for emotion in EMOTIONS], "counts": matrix.tolist()},
            "not_computed": {key: {"title": title, "reason": why} for key, (title, why) in NOT_COMPUTED.items()},
            "metrics": {
                metric.key: {
                    "title": metric.title, "unit": metric.unit, "range": metric.span, "better": metric.better,
                    "protocol": metric.protocol, "source": metric.source,
                }
                for metric in METRICS.values()
            },
            "paper": paper.as_facts(),
            "unmatched": self.plan.unmatched,
            "failures": [{"path": path, "error": error} for path, error in self.failures],
        }  # fmt: skip


def totals(videos: Iterable[Measured]) -> dict[str, Total]:
    """Mean, standard deviation and number of every metric."""
    videos = list(videos)
    found = {}
    for key in METRICS:
        values = [video.values[key] for video in videos if key in video.values]
        if values:
            found[key] = Total(float(np.mean(values)), float(np.std(values)), len(values))
    return found


def intensity_order(videos: Iterable[Measured]) -> tuple[int, int]:
    """Pairs of one photograph and emotion whose strength follows the wish: how many, of how many."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for video in videos:
        item = video.item
        if item.emotion is not None and item.intensity is not None and "strength" in video.values:
            key = str(item.source), item.emotion
            groups.setdefault(key, []).append((video.values["strength"], item.intensity))
    counted = [order_share(*zip(*group, strict=True)) for group in groups.values()]  # type: ignore[arg-type]
    return sum(right for right, _ in counted), sum(pairs for _, pairs in counted)


def judgements(videos: Iterable[Measured]) -> list[tuple[str, str]]:
    """Wished and judged emotion of every video that has both."""
    known = {emotion.value for emotion in EMOTIONS}
    return [
        (video.item.emotion, video.facts["judged_emotion"])
        for video in videos
        if video.item.emotion in known and "judged_emotion" in video.facts
    ]  # type: ignore[misc]


def video_facts(video: Measured) -> dict[str, Any]:
    """One video as JSON values."""
    item = video.item
    return {
        "video": str(video.path),
        "reference": None if item.reference is None else str(item.reference),
        "source": None if item.source is None else str(item.source),
        "emotion": item.emotion,
        "intensity": item.intensity,
        **video.facts,
        "values": {key: round(value, 6) for key, value in video.values.items()},
        "missing": video.missing,
        "warnings": video.warnings,
        "error": video.error,
    }


def csv_rows(evaluation: Evaluation) -> list[Mapping[str, Any]]:
    """One row for each video and each real video; empty where there is no value."""
    rows: list[Mapping[str, Any]] = []
    for kind, videos in (("video", evaluation.videos), ("real", evaluation.real)):
        for video in videos:
            facts = video_facts(video)
            row = {"kind": kind, **{name: facts.get(name) for name in CSV_FACTS}}
            row |= {key: facts["values"].get(key) for key in METRICS if key not in PER_RUN}
            rows.append(row | {"error": video.error})
    return rows


PER_RUN = ("intensity_order", "emotion_accuracy")  # of many videos together
CSV_FACTS = (
    "video", "reference", "source", "emotion", "intensity", "width", "height", "fps", "frames", "duration",
    "judged_emotion",
)  # fmt: skip
CSV_COLUMNS = ("kind", *CSV_FACTS, *(key for key in METRICS if key not in PER_RUN), "error")
