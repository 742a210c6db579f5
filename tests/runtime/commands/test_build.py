"""``saccade build`` with the real TensorRT-RTX, ahead of time for a GPU that is not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from saccade.runtime.commands.main import main
from saccade.runtime.engines.cuda_driver import why_no_gpu
from saccade.runtime.engines.plan_cache import PlanCache

RTX = ("--engine", "tensorrt-rtx")
SM89 = (*RTX, "--compute-capability", "SM89")


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _rtx() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="the extra `tensorrt-rtx` is not installed")


def test_plans_are_built_once_and_again_on_request(tiny: Path, tmp_path: Path) -> None:
    plans = tmp_path / "plans"

    def run(*more: str) -> list[dict[str, Any]]:
        result = saccade("build", tiny, *SM89, "--plans", plans, "--json", *more)
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert (told["plans"], told["target"]) == (str(plans), "SM89")
        rows: list[dict[str, Any]] = told["graphs"]
        return rows

    (first,) = run("--profile", "full")  # as an interrupted build leaves it
    everything = run()
    assert [row["is_built"] for row in everything] == [row["graph"] != first["graph"] for row in everything]
    assert len({row["plan"] for row in everything}) == len(everything) > 1
    assert all((plans / row["plan"]).stat().st_size == row["bytes"] > 1000 for row in everything)
    (plans / first["plan"]).write_bytes(b"")
    damaged = saccade("build", tiny, *SM89, "--plans", plans)
    assert damaged.exit_code == 1 and "--rebuild` renews it. [engine.plan]" in damaged.output
    assert [row["is_built"] for row in run("--profile", "full", "--rebuild")] == [True]
    told = saccade("build", tiny, *SM89, "--plans", plans)
    assert told.output.count("there already") == len(everything)
    assert f"plans for tensorrt-rtx on SM89 in {plans}" in told.output
    described = json.loads((plans / f"{first['plan']}.json").read_text())["key"]
    assert (described["gpu"], described["driver"], described["flags"]) == ("", 0, ["strongly_typed"])


def test_what_cannot_be_built_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    unknown = saccade("build", tiny, *RTX, "--compute-capability", "SM87", "--plans", plans)
    assert unknown.exit_code == 1 and "found SM87: choose another --engine. [engine]" in unknown.output
    assert not list(plans.glob("*.plan*"))
    for arguments, reason in (
        (("--profile", "none"), "[profile.unknown]"),
        (("--lowering", "none"), "[lowering.unknown]"),
    ):
        refused = saccade("build", tiny, *SM89, *arguments, "--plans", plans)
        assert refused.exit_code == 1 and reason in refused.output


def test_without_a_gpu_it_says_what_can_be_done(tiny: Path, tmp_path: Path) -> None:
    if why_no_gpu() is None:
        pytest.skip("there is a GPU here")
    refused = saccade("build", tiny, *RTX, "--plans", tmp_path / "plans")
    assert refused.exit_code == 1
    assert "found that there is no CUDA driver" in refused.output
    assert "tensorrt-rtx builds without one for a --compute-capability. [engine]" in refused.output
    assert not PlanCache(tmp_path / "plans").folder.exists()
