"""``saccade lower``: other forms of a bundle's graphs."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from saccade.export.bundle.progress import shown
from saccade.export.bundle.receipts import plain
from saccade.export.quantisation.pipeline import LOWERINGS, lower_bundle
from saccade.export.quantisation.request import DEFAULT_BLOCK, DEFAULT_BUDGET, LowerReport, LowerRequest
from saccade.export.quantisation.rounding import ROUNDINGS, RSQ

_EXAMPLE = """\b
Example:
  saccade lower bundle --to cpu-int8 --frames frames.npz --out bundle-int8
  saccade serve bundle-int8 --lowering cpu-int8
"""


@click.command(epilog=_EXAMPLE)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "lowerings",
    multiple=True,
    required=True,
    type=click.Choice(LOWERINGS),
    help="Form to add, to be repeated. cpu-int8: products in int8 on a CPU, as many as the budget allows; int4: "
    "weights in blocks of 4 bits, for memory; int3: the same with the levels of 3 bits, stored as 4, to see what they "
    "cost; gpu-fp16: float16 with islands of float32, for TensorRT from 10.3 on; "
    "gpu-fp16-opset23: the same with the attention, rotary and norm operators of TensorRT from 10.15 on.",
)
@click.option(
    "--frames",
    required=True,
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz): three of four calibrate, the others judge.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the new bundle.")
@click.option(
    "--budget",
    default=DEFAULT_BUDGET,
    show_default=True,
    type=float,
    help="cpu-int8: root mean square error of any action dimension that it may make, as a share of its range.",
)
@click.option(
    "--rounding",
    default=RSQ,
    show_default=True,
    type=click.Choice(ROUNDINGS),
    help="int4, int3: each number alone; so that the products change least (GPTQ); or the same by the attention that "
    "each token receives (RSQ).",
)
@click.option(
    "--block",
    default=str(DEFAULT_BLOCK),
    show_default=True,
    type=click.Choice(["16", "32", "64", "128"]),
    help="int4, int3: inputs that share a scale.",
)
@click.option(
    "--rotate",
    is_flag=True,
    help="int4, int3: rotate what flows between layers first, so that no channel stands out (QuaRot).",
)
@click.option("--force", is_flag=True, help="Replace a bundle at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def lower(
    *,
    bundle: Path,
    lowerings: tuple[str, ...],
    frames: Path,
    out: Path,
    budget: float,
    rounding: str,
    block: str,
    rotate: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Add other forms of its graphs to BUNDLE, and say what they cost in precision.

    The canonical graphs stay as they are; `--lowering` of `serve`, `bench` and `sim run` chooses. What a lowering does
    to the arm only the closed loop shows: run `saccade sim run OUT --lowering NAME` before it moves a robot.
    """
    request = LowerRequest(
        bundle=bundle,
        out=out,
        lowerings=lowerings,
        frames=frames,
        budget=budget,
        rounding=rounding,
        block=int(block),
        rotate=rotate,
        overwrite=force,
    )
    with shown() as progress:
        report = lower_bundle(request, progress)
    if as_json:
        click.echo(json.dumps({"bundle": str(out), "lowerings": _as_json(report)}, indent=2))
    else:
        Console().print(_table(report, out))


def _as_json(report: LowerReport) -> dict[str, object]:
    settings = {lowering.name: lowering.settings for lowering in report.manifest.lowerings}
    return {
        name: {"settings": settings[name], "profiles": {each: plain(found) for each, found in judged.items()}}
        for name, judged in report.judgements.items()
    }


def _table(report: LowerReport, out: Path) -> Table:
    actions = report.manifest.action
    table = Table(title=f"{report.manifest.name} -> {out}, on frames held out of calibration")
    for column in ("lowering", "profile", "error, of range", "largest error", "common tokens"):
        is_name = column in {"lowering", "profile"}
        table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
    for name, judged in report.judgements.items():
        for profile, found in judged.items():
            worst = max(range(actions.dim), key=lambda axis: found.share[axis])
            table.add_row(
                name,
                profile,
                f"{found.worst_share:.2%} ({actions.names[worst]})",
                f"{found.max_error[worst]:.2g} {actions.units[worst]}".removesuffix(" 1"),
                f"{found.overlap_min:.0%}",
            )
    return table
