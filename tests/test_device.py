"""The device is decided once, and a wrong one is named."""

from __future__ import annotations

import pytest
import torch

from emotalk.device import check_device_name, is_out_of_memory, resolve_device
from emotalk.errors import DeviceError


def with_cuda(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("CPU ", 0, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_names_become_devices(monkeypatch: pytest.MonkeyPatch, name: str, count: int, expected: str) -> None:
    with_cuda(monkeypatch, count)
    assert resolve_device(name) == torch.device(expected)


def test_a_device_passes_through() -> None:
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_unknown_names_are_refused_without_torch(name: str) -> None:
    with pytest.raises(DeviceError, match="unknown device"):
        check_device_name(name)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [("cuda", 0, "torch sees no CUDA device"), ("cuda:2", 2, "cuda:2 does not exist.*cuda:0 to cuda:1")],
)
def test_absent_cuda_devices_are_named(monkeypatch: pytest.MonkeyPatch, name: str, count: int, message: str) -> None:
    with_cuda(monkeypatch, count)
    with pytest.raises(DeviceError, match=message):
        resolve_device(name)


def test_absent_mps_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="mps is not available"):
        resolve_device("mps")


def test_memory_errors_are_told_from_bugs() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
