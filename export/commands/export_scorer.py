"""``saccade export-scorer``: a second bundle that scores the views."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from saccade.export.bundle.progress import shown
from saccade.export.scorer.pipeline import ScorerRequest
from saccade.export.scorer.pipeline import export_scorer as write_scorer
from saccade.proto.errors import SaccadeError
from saccade.proto.profile_names import FULL_PROFILE


@click.command(
    "export-scorer",
    epilog="""\b
Example:
  saccade export-scorer checkpoint --frames frames.npz --out scorer
  saccade serve bundle --view-scorer scorer
""",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Scorer bundle to write.")
@click.option(
    "--frames", type=click.Path(path_type=Path), help="Recorded frames (.npz) for the parity check."
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def export_scorer(checkpoint: Path, out: Path, frames: Path | None, force: bool, as_json: bool) -> None:
    """Export the view scorer of CHECKPOINT: it says once per task how much each view matters."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    request = ScorerRequest(checkpoint=checkpoint, out=out, frames=frames, overwrite=force)
    try:
        with shown() as progress:
            report = write_scorer(request, progress)
    except SaccadeError as error:
        raise click.ClickException(error.message) from error
    parity = report.parity[FULL_PROFILE]
    if as_json:
        click.echo(json.dumps({"bundle": str(out), **asdict(parity)}, indent=2))
    else:
        scores = ", ".join(f"{score:.3f}" for score in parity.scores)
        Console().print(
            f"{out}: mean scores {scores} over {parity.frames} {parity.source} frames, error {parity.max_error:.1e}"
        )
