"""What was published, as data, to be printed beside our own numbers.

Source:
    MEAD: Wang et al., "MEAD: A Large-scale Audio-visual Dataset for Emotional Talking-face Generation", ECCV 2020,
    section 6 and Tables 2 to 4. EAT: Gan et al., ICCV 2023, logs of its evaluation on 100 MEAD clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .emotions import Emotion

# Table 2, user study: share of answers that name the right emotion.
STUDY_CAPTURED: Mapping[Emotion, float] = {
    Emotion.ANGRY: 0.91, Emotion.DISGUSTED: 0.86, Emotion.CONTEMPT: 0.82, Emotion.FEAR: 0.87,
    Emotion.HAPPY: 0.90, Emotion.SAD: 0.93, Emotion.SURPRISED: 0.86, Emotion.NEUTRAL: 0.65,
}  # fmt: skip
STUDY_GENERATED: Mapping[Emotion, float] = {
    Emotion.ANGRY: 0.75, Emotion.DISGUSTED: 0.76, Emotion.CONTEMPT: 0.67, Emotion.FEAR: 0.79,
    Emotion.HAPPY: 0.81, Emotion.SAD: 0.85, Emotion.SURPRISED: 0.78, Emotion.NEUTRAL: 0.52,
}  # fmt: skip
STUDY_MEAN = (0.85, 0.74)  # captured, generated

# Table 3, user study: share of orderings with these levels exchanged; captured, generated.
INTENSITY_CONFUSION: Mapping[str, tuple[float, float]] = {
    "weak-medium": (0.13, 0.35),
    "medium-strong": (0.08, 0.32),
    "weak-strong": (0.03, 0.09),
    "all wrong": (0.01, 0.05),
}

# Table 4: FID of generated frames.
FID: Mapping[Emotion, float] = {
    Emotion.ANGRY: 36.14, Emotion.DISGUSTED: 36.99, Emotion.CONTEMPT: 43.02, Emotion.FEAR: 35.06,
    Emotion.HAPPY: 32.81, Emotion.SAD: 32.64, Emotion.SURPRISED: 25.97, Emotion.NEUTRAL: 28.06,
}  # fmt: skip
FID_MEAN = 33.84

CLASSIFIER_ACCURACY = (86.29, 86.26)  # percent, an emotion classifier on real and on generated video


@dataclass(frozen=True, slots=True)
class Published:
    """One number of somebody else, under a protocol that is not ours."""

    generated: float
    real: float | None
    who: str


PUBLISHED: Mapping[str, Published] = {
    "psnr": Published(21.79, None, "EAT on MEAD"),
    "ssim": Published(0.679, None, "EAT on MEAD"),
    "m_lmd": Published(2.22, None, "EAT on MEAD"),
    "f_lmd": Published(2.43, None, "EAT on MEAD"),
    "emotion_accuracy": Published(CLASSIFIER_ACCURACY[1], CLASSIFIER_ACCURACY[0], "MEAD paper"),
    "fid": Published(FID_MEAN, None, "MEAD paper"),
}


def as_facts() -> dict[str, object]:
    """Everything here as plain JSON values."""
    return {
        "study_accuracy": {
            emotion.value: {"captured": STUDY_CAPTURED[emotion], "generated": STUDY_GENERATED[emotion]}
            for emotion in STUDY_CAPTURED
        },
        "study_accuracy_mean": {"captured": STUDY_MEAN[0], "generated": STUDY_MEAN[1]},
        "intensity_confusion": {
            pair: {"captured": captured, "generated": generated}
            for pair, (captured, generated) in INTENSITY_CONFUSION.items()
        },
        "fid": {**{emotion.value: value for emotion, value in FID.items()}, "mean": FID_MEAN},
        "published": {
            key: {"generated": item.generated, "real": item.real, "who": item.who} for key, item in PUBLISHED.items()
        },
    }
