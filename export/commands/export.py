"""``saccade export``: a checkpoint becomes a bundle."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from saccade.export.bundle.progress import shown
from saccade.export.commands.options import keep_ratio_list, policy_options
from saccade.export.control.pipeline import ExportReport, ExportRequest, export_bundle

_EXAMPLE = """\b
Example:
  saccade export runs/mini/checkpoint --policy vla_pruner --keep 1.0,0.5,0.25,0.125 --out bundle
"""


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@click.option(
    "--policy",
    default="vla_pruner",
    show_default=True,
    help="Token-selection policy; keep_all keeps every token.",
)
@click.option(
    "--keep",
    "keep_ratios",
    default="1.0,0.5,0.25,0.125",
    show_default=True,
    callback=keep_ratio_list,
    help="Shares of the visual tokens to keep; each becomes a profile of the bundle.",
)
@click.option(
    "--policy-option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=policy_options,
    help="Option of the policy, e.g. window=3; may be repeated.",
)
@click.option(
    "--tuned",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Options that `saccade tune` found (.json) for one keep ratio; may be repeated.",
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz) on which ONNX Runtime is compared with PyTorch; default: random ones.",
)
@click.option(
    "--greedy",
    type=click.Choice(["unrolled", "loop"]),
    default="unrolled",
    show_default=True,
    help="Graph of policies that pick one token after another: unrolled = node by node; loop = smaller engines where "
    "hundreds of tokens are kept.",
)
@click.option(
    "--check-tensorrt-rtx",
    "checks_tensorrt_rtx",
    is_flag=True,
    help="Have TensorRT-RTX read and build every graph as well; needs the extra 'tensorrt-rtx', but no GPU.",
)
@click.option("--force", is_flag=True, help="Replace the bundle at --out, if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def export(
    *,
    checkpoint: Path,
    out: Path,
    policy: str,
    keep_ratios: tuple[float, ...],
    options: dict[str, object],
    tuned: tuple[Path, ...],
    frames: Path | None,
    greedy: str,
    checks_tensorrt_rtx: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Export CHECKPOINT, a model that moves a robot, to a bundle that runs without torch.

    Writes nothing unless every check passed: the operators TensorRT takes, ONNX Runtime against PyTorch on every
    profile, and that the policy changes something.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    request = ExportRequest(
        checkpoint=checkpoint,
        out=out,
        policy=policy,
        options=options,
        keep_ratios=keep_ratios,
        tuned=tuned,
        frames=frames,
        rolls_greedy_loops=greedy == "loop",
        checks_tensorrt_rtx=checks_tensorrt_rtx,
        overwrite=force,
    )
    with shown() as progress:
        report = export_bundle(request, progress)
    if as_json:
        click.echo(json.dumps(_as_json(report, out), indent=2))
    else:
        Console().print(_table(report, out))


def _as_json(report: ExportReport, out: Path) -> dict[str, object]:
    return {
        "bundle": str(out),
        "name": report.manifest.name,
        "policy": report.manifest.policy.name,
        "profiles": {name: asdict(receipt) for name, receipt in report.parity.items()},
        "nodes": {name: receipt.nodes for name, receipt in report.lint.items()},
        "macs": {name: account["macs"] for name, account in report.accounting.items()},
        "tensorrt_rtx": {name: asdict(receipt) for name, receipt in report.engines.items()},
        "bytes": sum(file.bytes for file in report.manifest.files.values()),
        "seconds": dict(report.seconds),
    }


def _table(report: ExportReport, out: Path) -> Table:
    megabytes = sum(file.bytes for file in report.manifest.files.values()) / 1e6
    table = Table(title=f"{report.manifest.name} -> {out}  ({megabytes:.1f} MB)")
    for column in (
        "profile",
        "visual tokens",
        "MACs",
        "nodes",
        "max action error",
        "same kept",
        "action change",
    ):
        table.add_column(column, justify="left" if column == "profile" else "right")
    for name, parity in report.parity.items():
        table.add_row(
            name,
            str(parity.keep),
            f"{report.accounting[name]['ratio_to_full']:.0%}",
            str(report.lint[name].nodes),
            f"{parity.actions_max_error:.1e}",
            f"{parity.kept_same_share:.0%}",
            f"{parity.action_change:.3f}" if parity.action_change else "-",
        )
    return table
