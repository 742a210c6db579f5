"""``saccade export-answering``: a checkpoint of a family that generates text becomes a bundle that answers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click

from saccade.export.answer.pipeline import AnsweringRequest, export_answering
from saccade.export.bundle.progress import shown
from saccade.export.commands.options import (
    checkpoint_argument,
    force_option,
    greedy_option,
    json_option,
    keep_option,
    name_option,
    options_of_policy,
    out_option,
    policy_option,
    policy_options,
    tensorrt_option,
    tokenizer_option,
)
from saccade.export.commands.report import as_json as report_as_json
from saccade.export.loading.license import UNKNOWN
from saccade.proto.errors import InputError
from saccade.proto.picture_fit import parse_picture_size

_EXAMPLE = """\b
Example:
  saccade export-answering llava-1.5-7b-hf --policy divprune --keep 1.0,0.25 --out llava
  saccade ask llava "What is on the table?" --image table.jpg
  saccade export-answering llava-v1.6-mistral-7b-hf --image-size 640x480 --policy fastv --keep 1.0,0.25 --out next
  saccade export-answering LLaVA-Video-7B-Qwen2 --frames 32 --policy quota --keep 1.0,0.25 --out video
  saccade ask video "What happens?" --video kitchen.mp4
"""


def _image_size(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    del context
    try:
        return None if text is None else parse_picture_size(text)
    except InputError as error:
        raise click.BadParameter(error.message, param=parameter) from error


@click.command(name="export-answering", epilog=_EXAMPLE)
@checkpoint_argument
@out_option
@tokenizer_option
@name_option
@policy_option("keep_all")
@options_of_policy
@keep_option("1.0")
@click.option(
    "--prompt",
    help="Prompt, with <image> where each picture goes and {instruction} where the question goes; default: the "
    "checkpoint's chat template, or the usual one of its family.",
)
@click.option("--views", default=1, show_default=True, help="Pictures, or videos, in one question.")
@click.option(
    "--frames", default=0, show_default=True, help="Frames taken of each video; 0 = still pictures."
)
@click.option(
    "--frames-per-second",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="How densely those frames are taken, for models that are told their times (Qwen-VL).",
)
@click.option(
    "--image-size",
    metavar="WIDTHxHEIGHT",
    callback=_image_size,
    help="Size of the pictures that will be asked about, e.g. 640x480, for models that cut pictures into tiles "
    "(LLaVA-NeXT, OneVision) or keep about their size (Qwen-VL, which needs it); default: one tile.",
)
@click.option("--max-text-tokens", default=64, show_default=True, help="Longest question, in tokens.")
@click.option("--max-new-tokens", default=64, show_default=True, help="Longest answer, in tokens.")
@click.option(
    "--kv-policy",
    default="keep_all_kv",
    show_default=True,
    help="Policy that drops entries of the key-value cache while an answer is generated.",
)
@click.option(
    "--kv-option",
    "kv_options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=policy_options,
    help="Option of the key-value policy; may be repeated.",
)
@click.option(
    "--questions",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Number of questions on which ONNX Runtime is compared with PyTorch; a large model takes minutes for each.",
)
@click.option(
    "--license",
    "weights_license",
    help="License of the weights, as an SPDX identifier; default: what the model card says.",
)
@greedy_option
@tensorrt_option
@force_option
@json_option
def export_answering_command(
    *,
    checkpoint: Path,
    out: Path,
    tokenizer: Path | None,
    name: str | None,
    policy: str,
    options: dict[str, object],
    keep_ratios: tuple[float, ...],
    prompt: str | None,
    views: int,
    frames: int,
    frames_per_second: float,
    image_size: tuple[int, int] | None,
    max_text_tokens: int,
    max_new_tokens: int,
    kv_policy: str,
    kv_options: dict[str, object],
    questions: int,
    weights_license: str | None,
    greedy: str,
    checks_tensorrt_rtx: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Export CHECKPOINT, a model that talks about pictures, to a bundle that answers without torch.

    Writes nothing unless every check passed: the operators TensorRT takes, ONNX Runtime against PyTorch token by token
    on every profile, and that the policy changes something.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    request = AnsweringRequest(
        checkpoint=checkpoint,
        out=out,
        tokenizer=tokenizer,
        name=name,
        policy=policy,
        options=options,
        keep_ratios=keep_ratios,
        prompt=prompt,
        views=views,
        frames=frames,
        frames_per_second=frames_per_second,
        image_size=image_size,
        max_text_tokens=max_text_tokens,
        max_new_tokens=max_new_tokens,
        kv_policy=kv_policy,
        kv_options=kv_options,
        questions=questions,
        license=weights_license,
        rolls_greedy_loops=greedy == "loop",
        checks_tensorrt_rtx=checks_tensorrt_rtx,
        overwrite=force,
    )
    with shown() as progress:
        report = export_answering(request, progress)
    manifest = report.manifest
    if as_json:
        click.echo(json.dumps(report_as_json(report, out), indent=2))
    else:
        kept = ", ".join(f"{profile.name} {profile.keep}" for profile in manifest.profiles)
        click.echo(f"{manifest.name} -> {out}: visual tokens {kept} of {manifest.grid.tokens}")
    if manifest.license == UNKNOWN:
        click.echo(
            "license of the weights: unknown, for the checkpoint has no model card (README.md) that says it; give "
            "--license.",
            err=True,
        )
