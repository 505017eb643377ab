"""Networks of others that judge a video, behind one door: a file that the user names; nothing is fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ..emotions import EMOTIONS, Emotion
from ..errors import WeightsError

# Order of the classes of HSEmotion (Savchenko, Apache-2.0): eight, or eight and then valence and arousal.
HSEMOTION = (
    Emotion.ANGRY, Emotion.CONTEMPT, Emotion.DISGUSTED, Emotion.FEAR,
    Emotion.HAPPY, Emotion.NEUTRAL, Emotion.SAD, Emotion.SURPRISED,
)  # fmt: skip
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
SIZES = (224, 260)  # pixels: enet_b0 and enet_b2


class EmotionJudge(Protocol):
    """Says what a face feels."""

    @property
    def name(self) -> str:
        """Network, licence and hash, for the tables."""
        ...

    def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Logits (N, 8) in the order of `EMOTIONS` of uint8 RGB face pictures."""
        ...


class HSEmotion:
    """An ONNX file of HSEmotion (enet_b0_8 or enet_b2_8), run by OpenCV.

    Raises:
        WeightsError: if the file is missing or is no such network.

    Source:
        Savchenko, "Facial expression and attributes recognition based on multi-task learning of lightweight neural
        networks", 2021; preprocessing as in its package hsemotion-onnx.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"the emotion network {path} cannot be read: {error.strerror}") from None
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        except cv2.error:
            raise WeightsError(f"{path} is no ONNX network that OpenCV can run") from None
        self._size = self._find_size(path)
        self.name = f"{path.name} as HSEmotion, sha256 {hashlib.sha256(data).hexdigest()[:12]}"

    def _find_size(self, path: Path) -> int:
        for size in SIZES:
            try:
                scores = self._run(np.zeros((size, size, 3), np.uint8), size)
            except cv2.error:
                continue
            if scores.size in (len(EMOTIONS), len(EMOTIONS) + 2):
                return size
        raise WeightsError(f"{path} does not take 224 or 260 pixels and give eight emotions, as HSEmotion does")

    def _run(self, face: np.ndarray, size: int) -> np.ndarray:
        small = cv2.resize(face, (size, size)).astype(np.float32) / 255.0
        small = (small - IMAGENET_MEAN) / IMAGENET_DEVIATION
        self._net.setInput(np.ascontiguousarray(small.transpose(2, 0, 1)[None]))
        return np.asarray(self._net.forward()).reshape(-1)

    def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        order = [HSEMOTION.index(emotion) for emotion in EMOTIONS]
        return np.stack([self._run(face, self._size)[: len(EMOTIONS)][order] for face in faces])
