"""The benches run; `-m bench` prints their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import bench_pipeline
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
