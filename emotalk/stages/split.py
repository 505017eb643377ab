"""Who is kept out of training: one rule for every stage."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

DEV_SHARE = 12  # one identity in twelve


def identity(name: str) -> str:
    """The person behind a file name: the stem without the picture number.

    `photos/Ai_Sugiyama_0002.jpg` and `Avinash_11.jpg` carry a number per person; `portrait_014.jpg` is a person of its
    own, so three digits are kept.
    """
    return re.sub(r"_(\d{1,2}|\d{4})$", "", PurePosixPath(name).stem)


def is_dev(name: str) -> bool:
    """True when the person behind this file name is kept for development checks and never trained on."""
    return int(hashlib.sha1(identity(name).encode()).hexdigest(), 16) % DEV_SHARE == 0
