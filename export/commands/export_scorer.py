"""``saccade export-scorer``: a second bundle that scores the views."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from saccade.export.scorer.pipeline import export_scorer as write_scorer


@click.command(
    "export-scorer",
    epilog="""\b
Example:
  saccade export-scorer checkpoint --frames frames.npz --out scorer
  saccade serve bundle --view-scorer scorer
""",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the scorer bundle to write."
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz) on which ONNX Runtime is compared with PyTorch; default: random ones.",
)
@click.option("--force", is_flag=True, help="Replace the bundle at --out, if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def export_scorer(checkpoint: Path, out: Path, frames: Path | None, force: bool, as_json: bool) -> None:
    """Export a scorer out of CHECKPOINT: a second bundle that says once per task how much each camera matters."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    with Console(stderr=True).status("export the view scorer"):
        parity = write_scorer(checkpoint, out, frames=frames, overwrite=force)
    if as_json:
        click.echo(json.dumps({"bundle": str(out), **asdict(parity)}, indent=2))
    else:
        shown = ", ".join(f"{score:.3f}" for score in parity.scores)
        Console().print(
            f"{out}: mean scores {shown} over {parity.frames} {parity.source} frames, error {parity.max_error:.1e}"
        )
