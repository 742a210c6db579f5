"""``saccade selftest``: everything that this machine can run of a bundle, in one file that can be sent back."""

from __future__ import annotations

import hashlib
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import InputError, SelfTestError
from saccade.proto.writable import check_file
from saccade.runtime.bench.machine import BUSY_CORES, OtherWork
from saccade.runtime.bench.report import shape_line
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.registry import ENGINES
from saccade.runtime.provenance import provenance
from saccade.runtime.selftest.hardware import hardware, state
from saccade.runtime.selftest.parts import Plan, interrupted, run_parts
from saccade.runtime.selftest.record import (
    ENGINE_PARTS,
    SCHEMA,
    SCHEMA_VERSION,
    Part,
    SelfTest,
    read_selftest,
    write_selftest,
)
from saccade.runtime.session import check_controls


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(ENGINES),
    help="Engine to test, which must be there; may be repeated.  [default: all that are there]",
)
@click.option("--quick", is_flag=True, help="One minute: does it run at all? Its times are worth little.")
@click.option(
    "--frames",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recorded frames (.npz) that engines are compared on.  [default: random ones]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("saccade-selftest.json"),
    show_default=True,
    help="File to write and to send back.",
)
@click.option(
    "--read",
    "sent",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check and show a file that was sent, and run nothing.",
)
def selftest(
    bundle: Path | None,
    engines: tuple[str, ...],
    quick: bool,
    frames: Path | None,
    out: Path,
    sent: Path | None,
) -> None:
    """Run all that this machine can run of BUNDLE, and write one file to send back.

    For every engine: build, parity with ONNX Runtime on the CPU, bench, and the closed loop in the simulator; before
    them the doctor. Each part runs in a process of its own. What could not run stands in the file as skipped, with the
    reason, or as failed, with code and message; exit code 1 if anything failed. Without BUNDLE, saccade-mini, which is
    installed with saccade. Some minutes for each engine; nothing in the file tells whose machine it was.

    \b
    Example:
        saccade selftest
        saccade selftest ./my-bundle --engine tensorrt --out orin.json
        saccade selftest --read orin.json
    """
    if sent is not None:
        _show(read_selftest(sent))
        return
    check_file(out)
    is_bundled = bundle is None
    bundle = _bundled() if bundle is None else bundle
    manifest = Bundle.open(bundle).manifest
    check_controls(manifest)
    beside = bundle.parent / "frames.npz"
    if frames is None and is_bundled and beside.is_file():
        frames = beside
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            bundle=bundle,
            manifest=manifest,
            engines=tuple(dict.fromkeys(engines)) or ENGINES,
            asked=frozenset(engines),
            is_quick=quick,
            frames=frames,
            folder=Path(folder),
        )
        found = _run(plan, out)
    _show(found)
    click.echo(f"written: {out}; send this file back, or read it with `saccade selftest --read {out.name}`")
    if found.has_failed:
        failed = [part.title for part in found.parts if part.code]
        raise SelfTestError(f"expected every part to run, found failures of {', '.join(failed)}: see {out}.")


def _run(plan: Plan, out: Path) -> SelfTest:
    """Run every part and write the file; when interrupted, what was found until then."""
    parts: list[Part] = []
    about: dict[str, Any] = {
        **provenance(),
        "hardware": hardware(),
        "bundle": {
            "name": plan.manifest.name,
            "created": plan.manifest.created,
            "shape": shape_line(plan.manifest),
            "manifest_sha256": hashlib.sha256((plan.bundle / MANIFEST_NAME).read_bytes()).hexdigest(),
        },
    }
    before = state()
    with OtherWork() as other, _progress() as progress:
        bar = progress.add_task("", total=1 + len(plan.engines) * len(ENGINE_PARTS))

        def note(part: Part) -> None:
            parts.append(part)
            progress.advance(bar)

        try:
            run_parts(plan, lambda title: progress.update(bar, description=title), note)
        except KeyboardInterrupt:
            parts += interrupted(plan, parts)
    found = SelfTest(
        schema=SCHEMA,
        schema_version=SCHEMA_VERSION,
        measured=about["measured"],
        command=tuple(about["command"]),
        is_quick=plan.is_quick,
        machine=about["machine"],
        hardware=about["hardware"],
        versions=about["versions"],
        bundle=about["bundle"],
        state={"before": before, "after": state()},
        other_cores=other.cores,
        is_busy=other.cores is None or other.cores > BUSY_CORES,
        parts=tuple(parts),
    )
    write_selftest(out, found)
    return found


def _bundled() -> Path:
    """Return the bundle that is installed with saccade."""
    try:
        place = Path(str(files("saccade.sim") / "saccade_mini" / "bundle"))
    except ModuleNotFoundError as error:
        raise InputError("expected BUNDLE, since saccade-mini is not installed here, found none.") from error
    if not place.is_dir():
        raise InputError("expected BUNDLE, since saccade-mini is not installed here, found none.")
    return place


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show(found: SelfTest) -> None:
    gpu = found.hardware.get("gpu") or {}
    where = found.hardware.get("board") or found.machine.get("cpu")
    click.echo(
        f"{where}, {gpu.get('name', 'no GPU')}; saccade {found.versions.get('saccade')}; {found.measured}"
    )
    click.echo(str(found.bundle.get("shape")))
    for line in found.lines():
        click.echo(line)
    if found.is_busy:
        click.echo("BUSY MACHINE: other programs ran meanwhile; its times are worth little.")
    if found.is_quick:
        click.echo("QUICK: its times are worth little.")
