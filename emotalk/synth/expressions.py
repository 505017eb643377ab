"""Which rig expressions make which emotion, and which make which mouth shape of speech."""

from __future__ import annotations

from ..emotions import Emotion

# Full strength (intensity 3). Facial action units per emotion after Ekman and Friesen, FACS (1978), strengthened where
# real actors' measured changes asked for it.
EMOTION_SHAPES: dict[Emotion, dict[str, float]] = {
    Emotion.HAPPY: {
        "mouthSmile": 0.85, "cheekSquint": 1.0, "eyeSquint": 0.45, "mouthUpperUp": 0.35, "mouthDimple": 0.15,
        "browOuterUp": 0.35, "browInnerUp": 0.25, "jawOpen": 0.08,
    },
    Emotion.SAD: {
        "browInnerUp": 0.8, "browDown": 0.65, "mouthFrown": 0.95, "mouthShrugLower": 0.5, "eyeSquint": 1.0,
        "eyeBlink": 0.2, "cheekSquint": 1.0, "mouthStretch": 0.1,
    },
    Emotion.ANGRY: {
        "browDown": 1.5, "eyeSquint": 0.9, "eyeWide": 0.4, "noseSneer": 0.4, "cheekSquint": 1.0, "mouthFrown": 0.6,
        "mouthPress": 0.5, "mouthStretch": 0.3, "mouthLowerDown": 0.25, "jawForward": 0.5,
    },
    Emotion.SURPRISED: {
        "browInnerUp": 1.25, "browOuterUp": 1.05, "eyeWide": 1.4, "jawOpen": 0.34, "mouthFunnel": 0.15,
    },
    Emotion.FEAR: {
        "browInnerUp": 1.25, "browOuterUp": 0.45, "browDown": 0.5, "eyeWide": 1.5, "mouthStretch": 0.95,
        "jawOpen": 0.22, "mouthLowerDown": 0.45, "mouthFrown": 0.2,
    },
    Emotion.DISGUSTED: {
        "noseSneer": 0.95, "mouthUpperUp": 0.4, "browDown": 0.9, "eyeSquint": 0.8, "cheekSquint": 1.0,
        "mouthFrown": 0.45, "mouthShrugLower": 0.45, "mouthShrugUpper": 0.2,
    },
    Emotion.CONTEMPT: {
        "mouthSmile_L": 0.4, "mouthDimple_L": 1.1, "mouthUpperUp_L": 0.35, "cheekSquint_L": 0.8, "cheekSquint_R": 0.5,
        "eyeSquint": 0.6, "browOuterUp_L": 0.75, "browOuterUp_R": 0.45, "browInnerUp": 0.85, "mouthPress": 0.3,
    },
    Emotion.NEUTRAL: {},
}  # fmt: skip

# Share of full strength at intensity 0, 1, 2, 3: delicate but detectable, typical, most exaggerated (MEAD's words).
LEVEL_STRENGTH = (0.0, 0.38, 0.68, 1.0)

MOUTH_SHAPES: dict[str, dict[str, float]] = {
    "AA": {"jawOpen": 0.5},
    "AH": {"jawOpen": 0.28, "mouthLowerDown": 0.2},
    "EE": {"jawOpen": 0.12, "mouthStretch": 0.35, "mouthUpperUp": 0.25, "mouthLowerDown": 0.4},
    "OO": {"jawOpen": 0.16, "mouthPucker": 0.4, "mouthFunnel": 0.35},
    "OH": {"jawOpen": 0.35, "mouthFunnel": 0.6},
    "FF": {"jawOpen": 0.05, "mouthRollLower": 0.6, "mouthUpperUp": 0.2},
    "MM": {"mouthPress": 0.4, "mouthRollLower": 0.2, "mouthRollUpper": 0.2},
    "SS": {"jawOpen": 0.04, "mouthStretch": 0.2, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2},
}  # fmt: skip


def strength(intensity: float) -> float:
    """Share of full strength for a continuous intensity in [0, 3]; linear between the levels."""
    level = min(int(intensity), len(LEVEL_STRENGTH) - 2)
    return LEVEL_STRENGTH[level] + (intensity - level) * (LEVEL_STRENGTH[level + 1] - LEVEL_STRENGTH[level])
