"""``saccade verify``: a checkpoint or a bundle against the class that was published with it."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from saccade.export.bundle.progress import shown
from saccade.export.commands.options import head_step_option, json_option, tokenizer_option
from saccade.export.verification.pipeline import Verification, VerifyRequest, verify
from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import InputError, ReceiptError
from saccade.proto.picture_fit import parse_picture_size

_EXAMPLE = """\b
Example:
  saccade verify openvla-7b
  saccade verify smolvla_base --reference-python lerobot/bin/python --out verified.json
  saccade verify my-bundle --checkpoint pi0_libero --frames frames.npz
"""


def _image_size(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    del context
    try:
        return parse_picture_size(text)
    except InputError as error:
        raise click.BadParameter(error.message, param=parameter) from error


def _receipt(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a place that cannot be written to before the work, not after it."""
    del context
    if path is not None and not os.access(path.parent, os.W_OK):
        raise click.BadParameter(
            f"expected a folder that can be written to at {path.parent}, found none", param=parameter
        )
    return path


@click.command(name="verify", epilog=_EXAMPLE)
@click.argument("model", metavar="CHECKPOINT-OR-BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="The checkpoint that a bundle was exported from: the published class reads that.",
)
@tokenizer_option
@head_step_option
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz); for a model that answers: images and instruction, its questions. Default: random.",
)
@click.option("--count", type=click.IntRange(1), default=2, show_default=True, help="Random frames to draw.")
@click.option(
    "--image-size",
    metavar="WIDTHxHEIGHT",
    default="640x480",
    show_default=True,
    callback=_image_size,
    help="Size of the random pictures for a model that answers.",
)
@click.option(
    "--reference-python",
    type=click.Path(path_type=Path),
    help="Interpreter of the environment that has the published class; default: this one.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-3,
    show_default=True,
    help="Largest difference that agrees, as a share of the stage's largest number; tokens must be the same.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    callback=_receipt,
    help="File to write the receipt to (.json).",
)
@json_option
def verify_command(
    *,
    model: Path,
    checkpoint: Path | None,
    tokenizer: Path | None,
    head_step: str | None,
    frames: Path | None,
    count: int,
    image_size: tuple[int, int],
    reference_python: Path | None,
    tolerance: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare CHECKPOINT-OR-BUNDLE with the class of lerobot or transformers that was published with it.

    Both see the same observations; the errors are told stage by stage. The class runs in a process of its own, in
    float32 on the CPU, in any environment that has it; code that a checkpoint brings along is never run.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    is_bundle = _is_bundle(model, checkpoint)
    request = VerifyRequest(
        checkpoint=model if checkpoint is None else checkpoint,
        bundle=model if is_bundle else None,
        tokenizer=tokenizer,
        head_step=head_step,
        frames=frames,
        count=count,
        image_size=image_size,
        reference_python=reference_python,
        tolerance=tolerance,
    )
    with shown() as progress:
        found = verify(request, progress)
    receipt = json.dumps(found.to_json(), indent=2, allow_nan=False)
    if out is not None:
        out.write_text(receipt + "\n", encoding="utf-8")
    if as_json:
        click.echo(receipt)
    else:
        Console().print(_table(found))
    _judge(found)


def _is_bundle(model: Path, checkpoint: Path | None) -> bool:
    """Whether the argument is a bundle; it comes with a checkpoint then, and only then."""
    is_bundle = (model / MANIFEST_NAME).is_file()
    if is_bundle and checkpoint is None:
        raise click.UsageError(
            "a bundle is verified with the checkpoint that it was exported from: --checkpoint PATH."
        )
    if checkpoint is not None and not is_bundle:
        raise click.UsageError(f"--checkpoint goes with a bundle, and {model} has no {MANIFEST_NAME}.")
    return is_bundle


def _table(found: Verification) -> Table:
    versions = ", ".join(f"{name} {version}" for name, version in found.reference_versions.items())
    table = Table(
        title=f"{found.model} ({found.side}) against {found.reference}",
        caption=f"{found.frames} {found.source} frames; {versions}",
    )
    for column in ("stage", "numbers", "largest", "error", "relative", ""):
        table.add_column(column, justify="left" if column in {"stage", ""} else "right")
    for stage in found.stages:
        sizes = (
            ("-", "-") if stage.note or not stage.largest else (f"{stage.largest:.3g}", f"{stage.error:.1e}")
        )
        verdict = "agrees" if stage.agrees else f"DIFFERS {stage.note}".rstrip()
        table.add_row(stage.stage, f"{stage.numbers}", *sizes, f"{stage.relative:.1e}", verdict)
    for name in found.not_compared:
        table.add_row(name, "-", "-", "-", "-", "not compared")
    return table


def _judge(found: Verification) -> None:
    """Raise where a stage differs."""
    wrong = [stage for stage in found.stages if not stage.agrees]
    if wrong:
        first = wrong[0]
        raise ReceiptError(
            f"{found.model}: expected every stage within {found.tolerance:g} of {found.reference}, found "
            f"{len(wrong)} that differ, first {first.stage}: {first.note or f'{first.relative:.1e}'}."
        )
