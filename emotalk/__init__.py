"""One photograph, one recording and a wish become a talking video of that face.

from emotalk import Pipeline
Pipeline().generate("face.jpg", "speech.wav", emotion="sad", intensity=3).save("sad.mp4")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .emotions import Emotion
    from .errors import EmotalkError
    from .pipeline import Pipeline

__all__ = ["EmotalkError", "Emotion", "Pipeline", "__version__"]
__version__ = "0.1.0"

_HOMES = {"Emotion": ".emotions", "EmotalkError": ".errors", "Pipeline": ".pipeline"}  # imported at first use


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
