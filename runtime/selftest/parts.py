"""What a self-test runs: the commands of each part, what is cut short, and what is left out and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from saccade.proto.distribution import install_hint
from saccade.proto.errors import EngineError, SelfTestError, SimulatorError
from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.engines.registry import DEFAULT_ENGINE, PLAN_ENGINES, why_not
from saccade.runtime.selftest.record import (
    BENCH,
    BUILD,
    CLOSED_LOOP,
    DOCTOR,
    ENGINE_PARTS,
    PARITY,
    Part,
    Status,
)
from saccade.runtime.selftest.subcommand import Outcome, run_saccade

_SIMULATOR = ("mujoco", "gymnasium")
_LONGEST_S = 4 * 3600.0
_KEPT_RAW = ("step", "wake")
"""Spans whose raw durations of ``bench`` are kept."""


@dataclass(frozen=True)
class Plan:
    """What is asked of a self-test.

    Args:
        bundle: Directory of the bundle.
        manifest: Its manifest; it controls a robot.
        engines: Names of the engines, each of which gets every part.
        asked: Engines that were asked for by name: it is a failure if one of them is not there.
        is_quick: Cut everything short.
        frames: Recorded frames that engines are compared on; None = random ones.
        folder: Folder for files on the way.
        spin_us: How long to be awake before each paced step of ``bench``, in turn with none, microseconds.
    """

    bundle: Path
    manifest: Manifest
    engines: tuple[str, ...]
    asked: frozenset[str]
    is_quick: bool
    frames: Path | None
    folder: Path
    spin_us: int = 200

    @property
    def profiles(self) -> tuple[str, ...]:
        """Profiles that are timed: all, or ``full`` and the last if it is quick."""
        names = tuple(profile.name for profile in self.manifest.profiles)
        return tuple(dict.fromkeys((FULL_PROFILE, names[-1]))) if self.is_quick else names


def run_parts(plan: Plan, tell: Callable[[str], None], note: Callable[[Part], None]) -> None:
    """Run every part, one after another.

    Args:
        plan: What is asked for.
        tell: Told what begins.
        note: Gets each part as it ends, in the order of :func:`titles`.
    """
    tell(DOCTOR)
    note(_anonymous(_doctor(plan), plan))
    for engine in plan.engines:
        gone = _absent(plan, engine)
        for name in ENGINE_PARTS:
            if gone is not None:
                note(replace(gone, name=name))
                continue
            tell(f"{engine}: {name}")
            part = _anonymous(_RUN[name](plan, engine), plan)
            note(part)
            if name == BUILD and part.status is Status.FAILED:
                gone = Part(name, engine, Status.SKIPPED, 0.0, message="its plans could not be built")


def interrupted(plan: Plan, parts: Sequence[Part]) -> list[Part]:
    """Return the parts that were not run, as skipped.

    Args:
        plan: What was asked for.
        parts: What was run until then.
    """
    run = {(part.engine, part.name) for part in parts}
    wanted = [(None, DOCTOR), *((engine, name) for engine in plan.engines for name in ENGINE_PARTS)]
    return [
        Part(name, engine, Status.SKIPPED, 0.0, message="interrupted before it was over")
        for engine, name in wanted
        if (engine, name) not in run
    ]


def _absent(plan: Plan, engine: str) -> Part | None:
    """Return what becomes of every part of an engine that is not there; None if it is."""
    reason = why_not(engine)
    if reason is None:
        return None
    if engine in plan.asked:
        return Part("", engine, Status.FAILED, 0.0, code=EngineError.code, message=reason)
    return Part("", engine, Status.SKIPPED, 0.0, message=reason)


def _doctor(plan: Plan) -> Part:
    outcome = run_saccade(
        ["doctor", str(plan.bundle), "--bind", "127.0.0.1:0", "--json"], timeout_s=_LONGEST_S
    )
    wrong = [finding for finding in outcome.result or [] if not finding.get("is_ok")]
    if outcome.code and wrong:
        told = "; ".join(f"{finding['subject']}: {finding['detail']}" for finding in wrong)
        outcome = replace(outcome, code=SelfTestError.code, message=told)
    return _part(DOCTOR, None, outcome)


def _build(plan: Plan, engine: str) -> Part:
    if engine not in PLAN_ENGINES:
        return Part(
            BUILD, engine, Status.SKIPPED, 0.0, message="it runs graphs as they are: nothing to build"
        )
    return _part(
        BUILD,
        engine,
        run_saccade(["build", str(plan.bundle), "--engine", engine, "--json"], timeout_s=_LONGEST_S),
    )


def _parity(plan: Plan, engine: str) -> Part:
    if engine == DEFAULT_ENGINE:
        return Part(
            PARITY, engine, Status.SKIPPED, 0.0, message="it is what the other engines are compared with"
        )
    given = [] if plan.frames is None else ["--frames", str(plan.frames)]
    return _written(plan, PARITY, engine, [*given, "--count", "4" if plan.is_quick else "32"])


def _bench(plan: Plan, engine: str) -> Part:
    seconds, steps = ("1", "32") if plan.is_quick else ("20", "100")
    options = [word for name in plan.profiles for word in ("--profile", name)]
    options += ["--seconds", seconds, "--steps", steps]
    if not plan.is_quick:
        action = plan.manifest.action
        hz = 2 * action.control_hz / action.chunk  # looks again when half of a chunk is carried out
        options += ["--hz", f"{hz:g}", "--spin-us", str(plan.spin_us)]
    return _written(plan, BENCH, engine, options)


def _closed_loop(plan: Plan, engine: str) -> Part:
    missing = next((name for name in _SIMULATOR if find_spec(name) is None), None)
    if missing is not None or not entry_points(group="saccade.commands", name="sim"):
        why = f"the simulator is not installed, found no {missing or 'command `sim`'}: {install_hint('sim')}"
        return Part(CLOSED_LOOP, engine, Status.SKIPPED, 0.0, message=why)
    file = plan.folder / f"{engine}.{CLOSED_LOOP}.json"
    options = [
        "--engine",
        engine,
        "--profile",
        ",".join((plan.profiles[0],) if plan.is_quick else plan.profiles),
    ]
    options += ["--episodes", "1" if plan.is_quick else "20", "--time", "waits" if plan.is_quick else "live"]
    outcome = run_saccade(
        ["sim", "run", str(plan.bundle), *options, "--json", str(file)], written=file, timeout_s=_LONGEST_S
    )
    if outcome.code.split(".")[0] == SimulatorError.code:  # another robot's bundle, or nothing to draw with
        return Part(CLOSED_LOOP, engine, Status.SKIPPED, outcome.seconds, message=outcome.message)
    return _part(CLOSED_LOOP, engine, outcome)


def _written(plan: Plan, name: str, engine: str, options: Sequence[str]) -> Part:
    """Run a command of the part's own name that writes its JSON to a file."""
    file = plan.folder / f"{engine}.{name}.json"
    arguments = [name, str(plan.bundle), "--engine", engine, *options, "--json", str(file)]
    return _part(name, engine, run_saccade(arguments, written=file, timeout_s=_LONGEST_S))


def _part(name: str, engine: str | None, outcome: Outcome) -> Part:
    status = Status.FAILED if outcome.code else Status.DONE
    result = shortened(outcome.result)
    return Part(name, engine, status, round(outcome.seconds, 1), outcome.code, outcome.message, result)


def _anonymous(part: Part, plan: Plan) -> Part:
    """Return a part without the places of this machine, which tell whose it is."""
    places = {str(plan.bundle.resolve()): plan.bundle.name, str(plan.folder): "", str(Path.home()): "~"}
    return replace(part, message=without(part.message, places), result=without(part.result, places))


def without(value: Any, places: Mapping[str, str]) -> Any:
    """Return plain JSON values in which every place stands under another name.

    Args:
        value: Plain JSON values.
        places: Other names of places, by the text that stands for them; the first that fits counts.
    """
    if isinstance(value, dict):
        return {key: without(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [without(item, places) for item in value]
    if isinstance(value, str):
        for place, name in places.items():
            value = value.replace(place, name)
    return value


def shortened(result: Any) -> Any:
    """Return what a command wrote, without most raw durations and without what the self-test says once.

    Args:
        result: Plain JSON values.
    """
    if not isinstance(result, dict):
        return result
    said_once = ("measured", "command", "machine", "versions")
    kept = {key: value for key, value in result.items() if key not in said_once}
    cells = kept.get("cells")
    if isinstance(cells, list):
        kept["cells"] = [_short_cell(cell) if "raw_us" in cell else cell for cell in cells]
    return kept


def _short_cell(cell: dict[str, Any]) -> dict[str, Any]:
    return cell | {"raw_us": {name: values for name, values in cell["raw_us"].items() if name in _KEPT_RAW}}


_RUN: dict[str, Callable[[Plan, str], Part]] = {
    BUILD: _build,
    PARITY: _parity,
    BENCH: _bench,
    CLOSED_LOOP: _closed_loop,
}
