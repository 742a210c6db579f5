"""``saccade export-scorer``: a second bundle that scores the views."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from saccade.export.bundle.progress import shown
from saccade.export.commands.options import (
    checkpoint_argument,
    force_option,
    head_step_option,
    json_option,
    name_option,
    out_option,
    recorded_frames_option,
    tensorrt_option,
    tokenizer_option,
)
from saccade.export.commands.report import as_json as report_as_json
from saccade.export.scorer.pipeline import ScorerRequest
from saccade.export.scorer.pipeline import export_scorer as write_scorer
from saccade.proto.profile_names import FULL_PROFILE


@click.command(
    "export-scorer",
    epilog="""\b
Example:
  saccade export-scorer checkpoint --frames frames.npz --out scorer
  saccade serve bundle --view-scorer scorer
""",
)
@checkpoint_argument
@out_option
@tokenizer_option
@head_step_option
@name_option
@recorded_frames_option
@tensorrt_option
@force_option
@json_option
def export_scorer(
    *,
    checkpoint: Path,
    out: Path,
    tokenizer: Path | None,
    head_step: str | None,
    name: str | None,
    frames: Path | None,
    checks_tensorrt_rtx: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Export a scorer out of CHECKPOINT: a second bundle that says once per task how much each camera matters.

    It measures how much of the instruction's attention falls on each. To ask a model that answers what it sees, as
    QuoTA does, take a bundle of `saccade export-answering` instead.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    request = ScorerRequest(
        checkpoint=checkpoint,
        out=out,
        tokenizer=tokenizer,
        head_step=head_step,
        name=name,
        frames=frames,
        checks_tensorrt_rtx=checks_tensorrt_rtx,
        overwrite=force,
    )
    with shown() as progress:
        report = write_scorer(request, progress)
    parity = report.parity[FULL_PROFILE]
    if as_json:
        click.echo(json.dumps({**report_as_json(report, out), **asdict(parity)}, indent=2))
    else:
        scores = ", ".join(f"{score:.3f}" for score in parity.scores)
        Console().print(
            f"{out}: mean scores {scores} over {parity.frames} {parity.source} frames, error {parity.max_error:.1e}"
        )
