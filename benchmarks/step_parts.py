"""Where the time of a control step goes, at each budget, beside what the multiply-accumulates (MACs) predict.

    python -m benchmarks.step_parts sim/saccade_mini/bundle

Each profile runs on ONNX Runtime twice, with its profiler and without; all take turns in blocks, so that a slow minute
slows all of them. How long a step takes is measured without the profiler, the share of each part with it. What MACs
predict is the full step's time, times the share of its MACs that is left. What no known part claims is ``rest``, and so
is what ONNX Runtime takes between two nodes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.frames import recorded_observations
from benchmarks.node_parts import (
    BEFORE,
    BEHIND,
    PARTS,
    REST,
    TOWER,
    count_macs,
    inner_nodes,
    node_parts,
    read_graph,
)
from benchmarks.node_times import NodeTimes, ProfilingBackend
from benchmarks.results_file import RESULTS, latency_summary, write_results
from saccade.proto.accounting import ACCOUNTING_RECEIPT, Account, accounts_from_json
from saccade.proto.errors import SaccadeError
from saccade.proto.manifest import Manifest, ProfileSpec
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.roofline import DECODER, SELECTION, VISION
from saccade.proto.strict_json import parse_json
from saccade.proto.tensor_names import PROPRIO
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.provenance import provenance
from saccade.sim.connection import table_of

_FRAMES = 16
_SHORT = dict(zip(PARTS, ("tower", "before", "behind", "choosing", "rest"), strict=True))
"""Columns of the table: layers before and behind the cut."""
_LEAST_ACCOUNTED = 0.7
"""Share of a step that the nodes explain at least, or else the profile lost some of them."""
_MACS_TOLERANCE = 0.02
"""Share of a step's MACs by which those of a part's nodes may differ from the bundle's receipt."""


@dataclass(frozen=True)
class Pace:
    """How often to run what.

    Args:
        rounds: How often every profile takes its turn.
        block: Steps of a turn that are counted.
        settle: Steps of a turn before them, in which threads and caches change hands.
    """

    rounds: int
    block: int
    settle: int

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Whether each step of all turns together counts, bool ``(steps,)``."""
        return np.tile(np.arange(self.settle + self.block) >= self.settle, self.rounds)


@dataclass
class Way:
    """A profile on one backend, and how long each of its steps took.

    Args:
        program: What runs it.
        profile: Name of the profile.
        durations_ns: Nanoseconds of each step, those that do not count among them.
    """

    program: ProgramExecutor
    profile: str
    durations_ns: list[int] = field(default_factory=list)

    def run(self, frames: Sequence[Observation], steps: int) -> None:
        """Run steps from a reset on."""
        program = self.program
        program.reset()
        for index in range(steps):
            frame = frames[index % len(frames)]
            program.set_images(frame.images)
            program.inputs[PROPRIO][...] = program.statistics.proprio.normalise(frame.proprio)
            timings_ns: dict[str, int] = {}
            program.step(self.profile, timings_ns)
            program.commit()
            self.durations_ns.append(sum(timings_ns.values()))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--threads", default="1,2", show_default=True, help="Threads of the engine, each for itself.")
@click.option("--rounds", default=12, show_default=True)
@click.option("--block", default=8, show_default=True, help="Counted steps of a profile's turn.")
@click.option("--settle", default=3, show_default=True, help="Steps of a turn that are not counted.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS / "step_parts.json", show_default=True
)
def main(bundle: Path, threads: str, rounds: int, block: int, settle: int, out: Path) -> None:
    """Measure every profile of BUNDLE, and write OUT."""
    pace = Pace(rounds, block, settle)
    try:
        opened = Bundle.open(bundle)
        cells = [cell for count in threads.split(",") for cell in measure(bundle, int(count), pace)]
    except SaccadeError as error:
        raise click.ClickException(str(error)) from error
    settings = {"rounds": rounds, "block": block, "settle": settle}
    policy = {"name": opened.manifest.policy.name, **opened.manifest.policy.config}
    found = {**provenance(), "bundle": opened.manifest.name, "policy": policy, "settings": settings}
    write_results(out, {**found, "cells": cells})
    show(cells, Console())


def measure(bundle: Path, threads: int, pace: Pace) -> list[dict[str, Any]]:
    """Return one entry for each profile of a bundle.

    Args:
        bundle: Folder of a bundle that acts in a single pass.
        threads: Threads of the engine.
        pace: How often to run what.

    Raises:
        ClickException: The bundle is of another kind, or what was measured does not add up.
    """
    opened = Bundle.open(bundle)
    accounts = _accounts(opened)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        profiling = stack.enter_context(ProfilingBackend(folder, threads=threads))
        profiled = ProgramExecutor(opened, profiling)
        plain = ProgramExecutor(Bundle.open(bundle), stack.enter_context(OrtBackend(threads=threads)))
        manifest = plain.manifest
        ways = _take_turns(manifest, (plain, profiled), pace, f"{manifest.name}, {threads} threads")
        cells = []
        for profile in manifest.profiles:
            alone, watched = ways[profile.name]
            times = profiling.node_times(_graph(profile))
            graph = profiling.optimised(_graph(profile))
            parts = _parts(graph, times, accounts)
            check_macs(
                profile.name, {part: macs for part, (_, macs) in parts.items()}, accounts[profile.name]
            )
            cell = {"threads": threads, "profile": profile.name, "keep": profile.keep}
            cell["visual_by_layer"] = list(accounts[profile.name].visual_by_layer)
            cells.append({**cell, **summarise(pace.counted, alone.durations_ns, watched.durations_ns, parts)})
    return with_predictions(cells)


def _take_turns(
    manifest: Manifest, programs: tuple[ProgramExecutor, ProgramExecutor], pace: Pace, what: str
) -> dict[str, tuple[Way, Way]]:
    """Run every profile on both programs, block by block."""
    told, frames = recorded_observations(_FRAMES, image_px=manifest.views[0].height, table=table_of(manifest))
    for program in programs:
        program.set_instruction(told)
    ways = {
        profile.name: (Way(programs[0], profile.name), Way(programs[1], profile.name))
        for profile in manifest.profiles
    }
    for _ in track(range(pace.rounds), what):
        for pair in ways.values():
            for way in pair:
                way.run(frames, pace.settle + pace.block)
    return ways


def _accounts(opened: Bundle) -> dict[str, Account]:
    receipt = parse_json(opened.read(ACCOUNTING_RECEIPT).decode("utf-8"))
    return accounts_from_json(receipt, opened.manifest.grid.tokens)


def _graph(profile: ProfileSpec) -> str:
    if len(profile.stages) != 1 or profile.token_stages:
        stages = ", ".join(stage.name for stage in (*profile.stages, *profile.token_stages))
        raise click.ClickException(f"expected a bundle that acts in one graph, found the stages {stages}.")
    return profile.stages[0].graph


def _parts(
    graph: Path, times: NodeTimes, accounts: Mapping[str, Account]
) -> dict[str, tuple[NDArray[np.int64], int]]:
    """Return microseconds ``(runs,)`` and MACs of each part; a node that is not in the graph is rest."""
    model, layers = read_graph(graph), accounts[FULL_PROFILE].visual_by_layer
    part_of = node_parts(model, len(layers), first_cut(accounts))
    skipped = inner_nodes(model) - set(part_of)
    found = {part: np.zeros(len(times.runs_us), np.int64) for part in PARTS}
    macs: Counter[str] = Counter()
    for name, durations_us in times.durations_us.items():
        if name in skipped:
            continue
        part = part_of.get(name, REST)
        found[part] = found[part] + durations_us
        macs[part] += count_macs(times.kinds[name], *times.shapes[name])
    return {part: (found[part], macs[part]) for part in PARTS}


def first_cut(accounts: Mapping[str, Account]) -> int:
    """Return the first decoder layer that sees fewer visual tokens in some profile than in ``full``.

    Args:
        accounts: Account of each profile by its name, ``full`` among them.
    """
    whole = accounts[FULL_PROFILE].visual_by_layer
    cuts = [
        layer
        for account in accounts.values()
        for layer, (seen, full) in enumerate(zip(account.visual_by_layer, whole, strict=True))
        if seen < full
    ]
    return min(cuts, default=len(whole))


def check_macs(profile: str, nodes: Mapping[str, int], account: Account) -> None:
    """See that tower, decoder and rest multiply what the bundle's receipt says.

    Choosing may multiply less: an attention that the model computes anyway is not computed again.

    Args:
        profile: Name of the profile, for the message.
        nodes: Multiply-accumulates of the nodes of each part.
        account: The profile's account in the receipt.

    Raises:
        ClickException: They lie more than 2 % of the whole apart.
    """
    said = {part.name: part.macs for part in account.parts}
    decoder, tower = said.get(DECODER, 0), said.get(VISION, 0)
    for what, found, receipt in (
        ("tower", nodes[TOWER], tower),
        ("decoder", nodes[BEFORE] + nodes[BEHIND], decoder),
        ("rest", nodes[REST], account.macs - decoder - tower - said.get(SELECTION, 0)),
    ):
        if abs(found - receipt) > _MACS_TOLERANCE * account.macs:
            raise click.ClickException(
                f"{profile}: expected {receipt / 1e6:.0f} M MACs in the nodes of the {what}, as in "
                f"{ACCOUNTING_RECEIPT}, found {found / 1e6:.0f} M: the graph is not cut up as it was built."
            )


def summarise(
    counted: NDArray[np.bool_],
    plain_ns: Sequence[int],
    profiled_ns: Sequence[int],
    parts: Mapping[str, tuple[NDArray[np.int64], int]],
) -> dict[str, Any]:
    """Return what one profile took, as plain JSON values.

    Args:
        counted: Whether each step counts, bool ``(steps,)``.
        plain_ns: Nanoseconds of each step without the profiler.
        profiled_ns: Nanoseconds of each step with it.
        parts: Microseconds of each part in each step with the profiler, int ``(steps,)``, and its MACs, by its name.

    Raises:
        ClickException: The parts together take longer than the steps that they are parts of, or far less.
    """
    wall_us = np.asarray(profiled_ns)[counted] / 1e3
    in_parts = {name: took[-len(counted) :][counted] for name, (took, _) in parts.items()}
    accounted = float(np.median(sum(in_parts.values()) / wall_us))
    if not _LEAST_ACCOUNTED <= accounted <= 1.0:
        raise click.ClickException(
            f"expected nodes that take {_LEAST_ACCOUNTED:.0%} to 100 % of the step that they are in, found "
            f"{accounted:.0%}: the profile does not belong to these runs, or lost nodes."
        )
    between_us = wall_us - sum(in_parts.values())
    in_parts[REST] = in_parts[REST] + between_us
    return {
        "macs": sum(macs for _, macs in parts.values()),
        "step": latency_summary(np.asarray(plain_ns)[counted].tolist()),
        "profiled": latency_summary(np.asarray(profiled_ns)[counted].tolist()),
        "in_nodes": round(accounted, 4),
        "between_nodes_us": round(float(np.median(between_us)), 1),
        "parts": {
            name: {
                "share": round(float(np.median(took / wall_us)), 4),
                "us": round(float(np.median(took)), 1),
                "macs": parts[name][1],
                "raw_us": np.round(took, 1).tolist(),
            }
            for name, took in in_parts.items()
        },
    }


def with_predictions(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to each cell what MACs predict of it, and how it compares with ``full``; see the module's docstring.

    Args:
        cells: What :func:`summarise` found of each profile of one run, with the profile's name.
    """
    (full,) = (cell for cell in cells if cell["profile"] == FULL_PROFILE)
    found = []
    for cell in cells:
        predicted_us = full["step"]["p50_us"] * cell["macs"] / full["macs"]
        took_us = cell["step"]["p50_us"]
        found.append(
            {
                **cell,
                "predicted_us": round(predicted_us, 1),
                "measured_over_predicted": round(took_us / predicted_us, 3),
                "times_faster": round(full["step"]["p50_us"] / took_us, 3),
            }
        )
    return found


def show(cells: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print one row for each profile: times in milliseconds, parts in per cent of the step."""
    for threads in dict.fromkeys(cell["threads"] for cell in cells):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
        table.title = f"threads: {threads}; medians, ms; parts in % of the step"
        for name in ("profile", "step", "by MACs", "ratio", "faster", *_SHORT.values()):
            table.add_column(name, no_wrap=True, justify="left" if name == "profile" else "right")
        for cell in cells:
            if cell["threads"] == threads:
                table.add_row(*_row(cell))
        console.print(table)


def _row(cell: Mapping[str, Any]) -> list[str]:
    return [
        cell["profile"],
        f"{cell['step']['p50_us'] / 1e3:.1f}",
        f"{cell['predicted_us'] / 1e3:.1f}",
        f"{cell['measured_over_predicted']:.2f}",
        f"{cell['times_faster']:.2f}",
        *(f"{100 * cell['parts'][part]['share']:.1f}" for part in PARTS),
    ]


if __name__ == "__main__":
    main()
