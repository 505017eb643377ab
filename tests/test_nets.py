"""What holds for every network, shown on tiny ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from emotalk.nets import NETWORKS
from emotalk.weights import read_network, save_network

EXTRA: list[tuple[str, Any]] = [
    ("audio2landmark", replace(tiny.CONFIGS["audio2landmark"], recurrent="window")),
    ("neutral2emotion", replace(tiny.CONFIGS["neutral2emotion"], head="rgb")),
    ("refinement", replace(tiny.CONFIGS["refinement"], norm="instance")),
]
CASES = [*tiny.CONFIGS.items(), *EXTRA]
cases = pytest.mark.parametrize(("name", "config"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])

SHAPES = {
    "facefinder": [(5, 4, 4), (5, 4, 4, 5, 2)],
    "landmarks": [(5, 68, 2), (5,), (5, 68, 8, 8)],
    "audio2landmark": [(5, 7, 4)],
    "neutral2emotion": [(5, 2, 32, 32), (5, 1, 32, 32), (5, 1, 32, 32), (5, 3, 32, 32)],
    "refinement": [(5, 2, 32, 32), (5, 1, 32, 32), (5, 1, 32, 32), (5, 3, 32, 32)],
}


def test_every_network_has_a_tiny_twin() -> None:
    folder = Path(__file__).parent.parent / "emotalk" / "nets"
    present = {n for n, e in NETWORKS.items() if (folder / f"{e.module.rpartition('.')[2]}.py").is_file()}
    assert present == set(tiny.CONFIGS) == set(SHAPES)


@cases
def test_outputs_have_their_shape_and_are_finite(name: str, config: Any) -> None:
    result = tiny.outputs(tiny.network(name, config=config)(*tiny.inputs(name, 5)))
    assert [tuple(t.shape) for t in result] == SHAPES[name]
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in result)


@cases
def test_a_batch_of_five_is_five_batches_of_one(name: str, config: Any) -> None:
    module, given = tiny.network(name, config=config), tiny.inputs(name, 5)
    with torch.no_grad():
        together = tiny.outputs(module(*given))
        for i in range(5):
            alone = tiny.outputs(module(*(t[i : i + 1] for t in given)))
            for part, one in zip(together, alone, strict=True):
                torch.testing.assert_close(part[i : i + 1], one, atol=1e-5, rtol=1e-4)


@cases
def test_the_gradient_reaches_every_parameter(name: str, config: Any) -> None:
    module = tiny.network(name, config=config)
    random = torch.Generator().manual_seed(1)
    loss = torch.zeros(())
    for part in tiny.outputs(module(*tiny.inputs(name, 5))):
        if part.requires_grad:  # the paper's head has constant flow, gain and mask
            loss = loss + (part * torch.randn(part.shape, generator=random)).sum()
    loss.backward()
    still = [key for key, p in module.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not still


@cases
def test_every_input_matters(name: str, config: Any) -> None:
    module, given = tiny.network(name, config=config), tiny.inputs(name, 1)
    other = tiny.inputs(name, 1, seed=9)
    with torch.no_grad():
        before = tiny.outputs(module(*given))
        for i in range(len(given)):
            changed = tiny.outputs(module(*given[:i], other[i], *given[i + 1 :]))
            assert any(not torch.equal(a, b) for a, b in zip(before, changed, strict=True)), f"input {i}"


@cases
def test_saved_weights_give_the_same_output(name: str, config: Any, tmp_path: Path) -> None:
    """Within what half precision keeps: 11 bits of each weight."""
    module = tiny.network(name, config=config)
    path = tmp_path / f"{name}.safetensors"

    save_network(path, module, config)
    given = tiny.inputs(name, 2)
    with torch.no_grad():
        for part, again in zip(
            tiny.outputs(module(*given)), tiny.outputs(read_network(path, name)(*given)), strict=True
        ):
            torch.testing.assert_close(part, again, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("name", ["neutral2emotion", "refinement"])
def test_a_picture_of_another_size_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expects 32x32 pixels, got \(48, 48\)"):
        tiny.network(name)(*tiny.inputs(name, 1, size=48))
