"""``saccade export``: a checkpoint becomes a bundle."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from saccade.export.bundle.progress import shown
from saccade.export.commands.options import (
    checkpoint_argument,
    force_option,
    greedy_option,
    head_step_option,
    json_option,
    keep_option,
    name_option,
    options_of_policy,
    out_option,
    policy_option,
    recorded_frames_option,
    tensorrt_option,
    tokenizer_option,
)
from saccade.export.commands.report import as_json as report_as_json
from saccade.export.control.pipeline import ExportReport, ExportRequest, export_bundle
from saccade.proto.statistics import tell_never_varied

_EXAMPLE = """\b
Example:
  saccade export runs/mini/checkpoint --policy vla_pruner --keep 1.0,0.5,0.25,0.125 --out bundle
"""


@click.command(epilog=_EXAMPLE)
@checkpoint_argument
@out_option
@tokenizer_option
@head_step_option
@name_option
@policy_option("vla_pruner")
@keep_option("1.0,0.5,0.25,0.125")
@options_of_policy
@click.option(
    "--tuned",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Options that `saccade tune` found (.json) for one keep ratio; may be repeated.",
)
@recorded_frames_option
@greedy_option
@tensorrt_option
@force_option
@json_option
def export(
    *,
    checkpoint: Path,
    out: Path,
    tokenizer: Path | None,
    head_step: str | None,
    name: str | None,
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
        tokenizer=tokenizer,
        head_step=head_step,
        name=name,
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
        click.echo(json.dumps(report_as_json(report, out), indent=2))
    else:
        console = Console()
        console.print(_table(report, out))
        if constant := tell_never_varied(report.never_varied):
            console.print(
                f"Never varied in the data set: {constant}. Whatever the robot has there instead, the model was never "
                "shown it.",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


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
