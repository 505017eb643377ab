"""The device, decided once: "auto", "cpu", "cuda", "cuda:N" or "mps" become a `torch.device`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from .errors import DeviceError

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device_name(name: str) -> str:
    """Return `name` in lower case if it is spelled like a device; does not import torch.

    Raises:
        DeviceError: if it is not.
    """
    wanted = str(name).strip().lower()
    if not _NAME.fullmatch(wanted):
        raise DeviceError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps")
    return wanted


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device to compute on; `auto` is the first CUDA device, else the CPU.

    Apple's `mps` has to be asked for: small networks run faster on its CPU than with the copies in between.

    Raises:
        DeviceError: if the name is unknown or this machine has no such device.
    """
    import torch

    wanted = check_device_name(str(name))
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not available here; use cpu")
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise DeviceError(f"device {wanted} is not available here: torch sees no CUDA device; use cpu")
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise DeviceError(f"device {wanted} does not exist; this machine has cuda:0 to cuda:{count - 1}")
        return torch.device("cuda", index)
    return torch.device(wanted)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is memory running out, on the device or on the machine."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # an error of torch means that torch is loaded
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
