"""``saccade parity``: does an engine compute what ONNX Runtime on the CPU computes?"""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from saccade.proto.errors import ParityError
from saccade.proto.writable import check_file
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.engine_options import lowering_option, plans_option
from saccade.runtime.engines.registry import DEFAULT_ENGINE, ENGINES, open_backend, runs_on_gpu
from saccade.runtime.parity.comparison import CPU_LIMITS, GPU_LIMITS, ProfileParity, compare
from saccade.runtime.parity.frames import Frames, random_frames, read_frames
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.provenance import provenance
from saccade.runtime.session import check_controls


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--engine", type=click.Choice(ENGINES), required=True, help="What is compared; it must be there."
)
@lowering_option
@plans_option
@click.option(
    "--profile", "profiles", multiple=True, help="Profile to compare; may be repeated. Default: all."
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recorded frames (.npz), as for `saccade export`.  [default: random ones within the bundle's specs]",
)
@click.option(
    "--count", default=8, show_default=True, type=click.IntRange(1), help="Frames that are compared at most."
)
@click.option(
    "--instruction",
    default="pick up the object",
    show_default=True,
    help="What the arm is told in random frames.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the findings here.")
def parity(
    bundle: Path,
    engine: str,
    lowering: str,
    plans: Path | None,
    profiles: tuple[str, ...],
    frames: Path | None,
    count: int,
    instruction: str,
    json_path: Path | None,
) -> None:
    """Compare an engine with ONNX Runtime on the CPU, in the robot's own units.

    Both run the same observations from the same carry, step by step. Exit code 1 if an action is further off than the
    engine's arithmetic explains: 0.1 % of half its usual range on a CPU, 2 % on a GPU, whose products may use TF32.

    \b
    Example:
        saccade parity ./saccade-mini --engine openvino
        saccade parity ./saccade-mini --engine tensorrt --frames recorded.npz
    """
    if json_path is not None:
        check_file(json_path)
    opened = Bundle.open(bundle)
    check_controls(opened.manifest)
    names = [opened.manifest.profile(name).name for name in profiles] or [
        profile.name for profile in opened.manifest.profiles
    ]
    with open_backend() as beside, open_backend(engine, plans=plans, builds_plans=True) as backend:
        reference = ProgramExecutor(opened, beside)
        program = ProgramExecutor(opened, backend, lowering=lowering)
        steps = opened.manifest.policy.warmup_steps + count
        given = (
            random_frames(opened.manifest, reference.statistics, steps, instruction)
            if frames is None
            else read_frames(frames, opened.manifest, steps)
        )
        found = _compare_shown(reference, program, given, names)
    limits = GPU_LIMITS if runs_on_gpu(engine) else CPU_LIMITS
    breaches = [breach for profile in found for breach in profile.breaches(limits)]
    if json_path is not None:
        results = {
            **provenance(),
            "engine": program.engine_name,
            "reference": reference.engine_name,
            "source": given.source,
            "limits": asdict(limits),
            "breaches": breaches,
            "profiles": [_plain(asdict(profile)) for profile in found],
        }
        json_path.write_text(json.dumps(results) + "\n", encoding="utf-8")
    for profile in found:
        click.echo(_line(profile))
    if breaches:
        raise ParityError(
            f"expected {engine} to compute what {DEFAULT_ENGINE} computes, found {'; '.join(breaches)}: do not let it "
            "drive a robot."
        )


def _compare_shown(
    reference: ProgramExecutor, program: ProgramExecutor, frames: Frames, profiles: list[str]
) -> list[ProfileParity]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bars = {name: progress.add_task(name, total=len(frames)) for name in profiles}
        return compare(
            reference,
            program,
            frames,
            profiles,
            lambda profile, done: progress.update(bars[profile], completed=done),
        )


def _line(found: ProfileParity) -> str:
    physical = ", ".join(f"{name} {error:.2g}" for name, error in found.max_error_physical.items())
    return (
        f"{found.profile}: {found.same_kept} of {found.frames} frames with the same tokens; largest errors there: "
        f"{physical}; {found.max_error:.1e} of half the range"
    )


def _plain(value: Any) -> Any:
    """Return plain JSON values; a number that JSON lacks, such as NaN, becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value
