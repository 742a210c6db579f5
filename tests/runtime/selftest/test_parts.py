"""Which parts run, which are skipped and why; commands are counted here, and really run in the command's own test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saccade.runtime.bundle import Bundle
from saccade.runtime.selftest import parts
from saccade.runtime.selftest.parts import Plan, interrupted, run_parts, shortened
from saccade.runtime.selftest.record import ENGINE_PARTS, Part, Status
from saccade.runtime.selftest.subcommand import Outcome


class Commands:
    """Remembers what was asked for, and answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers: dict[str, Outcome] = {}

    def __call__(self, arguments: Sequence[str], **_: Any) -> Outcome:
        self.asked.append(list(arguments))
        return self.answers.get(arguments[0], Outcome(1.0, {"cells": []}))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    commands.answers["doctor"] = Outcome(1.0, [{"subject": "python", "is_ok": True, "detail": "3"}])
    monkeypatch.setattr(parts, "run_saccade", commands)
    monkeypatch.setattr(parts, "why_not", lambda name: "no GPU" if name == "ort-cuda" else None)
    return commands


@pytest.fixture
def plan(tiny: Path, tmp_path: Path) -> Plan:
    manifest = Bundle.open(tiny).manifest
    return Plan(tiny, manifest, ("openvino",), frozenset(), is_quick=False, frames=None, folder=tmp_path)


def run(plan: Plan) -> dict[str, Part]:
    found: list[Part] = []
    run_parts(plan, lambda title: None, found.append)
    return {part.title: part for part in found}


def test_each_part_runs_its_command(plan: Plan, commands: Commands, tmp_path: Path) -> None:
    found = run(plan)
    assert list(found) == ["doctor", *(f"openvino: {name}" for name in ENGINE_PARTS)]
    assert found["openvino: build"].status is Status.SKIPPED
    assert [asked[0] for asked in commands.asked] == ["doctor", "parity", "bench", "sim"]
    bench = " ".join(commands.asked[2])
    assert "--profile full --profile keep50" in bench and "--hz 13.3333 --spin-us 200" in bench
    assert "--time live" in " ".join(commands.asked[3])


def test_a_quick_one_is_cut_short_and_recorded_frames_are_compared_on(plan: Plan, commands: Commands) -> None:
    run(replace(plan, is_quick=True, frames=Path("seen.npz")))
    _, parity, bench, sim = (" ".join(asked) for asked in commands.asked)
    assert "--frames seen.npz --count 4" in parity and "--seconds 1" in bench and "--hz" not in bench
    assert "--episodes 1 --time waits" in sim


def test_an_engine_that_is_not_there_is_skipped_and_one_that_was_asked_for_failed(
    plan: Plan, commands: Commands
) -> None:
    for asked, status in ((frozenset[str](), Status.SKIPPED), (frozenset({"ort-cuda"}), Status.FAILED)):
        found = run(replace(plan, engines=("ort-cuda",), asked=asked))
        assert [part.status for title, part in found.items() if title != "doctor"] == [status] * 4
        assert found["ort-cuda: bench"].message == "no GPU"


def test_without_plans_nothing_of_their_engine_runs(plan: Plan, commands: Commands) -> None:
    commands.answers["build"] = Outcome(3.0, None, "engine", "refused")
    found = run(replace(plan, engines=("tensorrt",)))
    assert found["tensorrt: build"].status is Status.FAILED and found["tensorrt: build"].code == "engine"
    for name in ENGINE_PARTS[1:]:
        assert found[f"tensorrt: {name}"].message == "its plans could not be built"
    assert [asked[0] for asked in commands.asked] == ["doctor", "build"]


def test_what_the_doctor_finds_wrong_is_a_failure_that_says_what(plan: Plan, commands: Commands) -> None:
    wrong = [{"subject": "pyzmq", "is_ok": False, "detail": "not installed"}]
    commands.answers["doctor"] = Outcome(1.0, wrong, "selftest", "it ended with exit code 1")
    doctor = run(plan)["doctor"]
    assert (doctor.status, doctor.message, doctor.result) == (Status.FAILED, "pyzmq: not installed", wrong)


def test_a_closed_loop_that_this_machine_or_bundle_has_no_simulator_for_is_skipped(
    plan: Plan, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.answers["sim"] = Outcome(1.0, None, "simulator.graphics", "no OpenGL")
    assert run(plan)["openvino: closed_loop"] == Part(
        "closed_loop", "openvino", Status.SKIPPED, 1.0, message="no OpenGL"
    )
    commands.answers["sim"] = Outcome(1.0, None, "engine", "it broke")
    assert run(plan)["openvino: closed_loop"].status is Status.FAILED
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    closed = run(plan)["openvino: closed_loop"]
    assert closed.status is Status.SKIPPED and "found no mujoco: pip install" in closed.message


def test_what_an_interruption_left_is_said(plan: Plan) -> None:
    done = [Part("doctor", None, Status.DONE, 1.0)]
    left = interrupted(plan, done)
    assert [part.name for part in left] == list(ENGINE_PARTS)
    assert {(part.status, part.message) for part in left} == {
        (Status.SKIPPED, "interrupted before it was over")
    }


def test_most_raw_durations_are_left_out() -> None:
    cell = {"profile": "full", "raw_us": {"step": [1.0], "wake": [2.0], "stage.step": [3.0]}}
    short = shortened({"machine": {}, "engine": "ort-cpu", "cells": [cell, {"task": "reach"}]})
    assert short == {
        "engine": "ort-cpu",
        "cells": [{"profile": "full", "raw_us": {"step": [1.0], "wake": [2.0]}}, {"task": "reach"}],
    }
    assert shortened([1]) == [1]


def test_places_of_the_machine_are_not_sent(plan: Plan, commands: Commands, tmp_path: Path) -> None:
    home = str(Path.home())
    commands.answers["parity"] = Outcome(
        1.0, {"plans": [f"{home}/plans"]}, "file", f"{plan.bundle}/x in {home}/y"
    )
    part = run(plan)["openvino: parity"]
    assert (part.message, part.result) == ("tiny/x in ~/y", {"plans": ["~/plans"]})
