"""The benches run; `-m bench` prints their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import bench_pipeline
import bench_prepare
import pytest


def test_the_pipeline_bench_runs_on_tiny_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = bench_pipeline.main(["--tiny", "--json", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text()) == facts
    printed = capsys.readouterr().out
    for name, row in facts["warm"]["milliseconds"].items():
        assert name in printed
        assert 0 < row["lowest"] <= row["median"] <= row["highest"]
    assert facts["warm"]["frames"] == 25
    assert facts["cold_seconds"]["first_frame"] < facts["cold_seconds"]["whole"]
    assert facts["cold_seconds"]["peak_mib"] > 50


@pytest.mark.bench
def test_pipeline_speed() -> None:
    """Real sizes; random weights until there are shipped ones."""
    shipped = (bench_pipeline.ASSETS / "refinement.safetensors").is_file()
    facts = bench_pipeline.main([] if shipped else ["--random"])
    assert facts["warm"]["frames_per_second"] > 25


def test_the_prepare_bench_runs_on_a_short_clip(tmp_path: Path) -> None:
    facts = bench_prepare.main(["--tiny", "--json", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text()) == facts
    assert facts["frames"] > 0 and facts["frames_per_processor_second"] > 1
    assert facts["peak_mib_last"] >= facts["peak_mib_first"]


@pytest.mark.bench
def test_prepare_speed() -> None:
    """Of one processor, 1080 lines."""
    facts = bench_prepare.main([])
    assert facts["frames_per_processor_second"] > 40
    assert facts["peak_mib_last"] < 2000
