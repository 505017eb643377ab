"""Every number a user may change, with its default, once; checked when it is built."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Neutral2EmotionConfig:
    """Sizes of `neutral2emotion`; part of its weights."""

    size: int = 128  # pixels, side of the canonical crop as the network sees it
    condition_size: int = 12  # emotion 8, intensity 3, eyelids closed 1
    code_size: int = 64  # numbers the condition is turned into
    widths: tuple[int, ...] = (24, 48, 96, 160, 192)  # channels from full size down
    residual_blocks: int = 2
    head: str = "edit"  # "edit": flow + gain + mask + colour; "rgb": the paper's painted picture

    def __post_init__(self) -> None:
        check_image_net("neutral2emotion", self.size, self.widths, self.head)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementConfig:
    """Sizes of `refinement`; part of its weights."""

    size: int = 160  # pixels, side of `landmarks.LOWER_WINDOW`
    widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    residual_blocks: int = 2
    head: str = "edit"

    def __post_init__(self) -> None:
        check_image_net("refinement", self.size, self.widths, self.head)


def check_image_net(name: str, size: int, widths: tuple[int, ...], head: str) -> None:
    """Refuse sizes that cannot be halved often enough, and unknown heads."""
    step = 2 ** (len(widths) - 1)
    if len(widths) < 2 or min(widths) < 1:
        raise ConfigError(f"{name}.widths is {list(widths)}; give at least two positive numbers")
    if size < step or size % step:
        raise ConfigError(f"{name}.size is {size}; with {len(widths)} levels it must be a multiple of {step}")
    if head not in ("edit", "rgb"):
        raise ConfigError(f"{name}.head is {head!r}; it must be edit or rgb")
