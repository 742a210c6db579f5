"""``--engine`` names the engines there are, and one that is missing is refused before the daemon listens."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from saccade.runtime.commands.main import main
from saccade.runtime.engines.registry import ENGINES

MINI = Path(str(files("saccade.sim") / "saccade_mini" / "bundle"))
COMMANDS = (["serve"], ["bench"], ["sim", "run"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_that_runs_graphs_takes_it(command: list[str]) -> None:
    unknown = CliRunner().invoke(main, [*command, str(MINI), "--engine", "tpu"])
    assert unknown.exit_code == 2
    assert all(f"'{name}'" in unknown.output for name in ENGINES)


def test_an_engine_that_is_missing_is_refused_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it was never installed
    found = CliRunner().invoke(main, ["serve", str(MINI), "--bind", "127.0.0.1:0", "--engine", "openvino"])
    assert found.exit_code == 1
    assert "pip install 'saccade-vla[openvino]'. [engine]" in found.output
