"""``saccade export-answering``: a checkpoint of a family that generates text becomes a bundle that answers."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from saccade.export.answering import AnsweringRequest, export_answering
from saccade.export.cli import keep_ratio_list, policy_options
from saccade.export.progress import shown
from saccade.proto.errors import SaccadeError

_EXAMPLE = """\b
Example:
  saccade export-answering llava-1.5-7b-hf --policy divprune --keep 1.0,0.25 --out llava
  saccade ask llava "What is on the table?" --image table.jpg
"""


@click.command(name="export-answering", epilog=_EXAMPLE)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Bundle folder to write.")
@click.option("--policy", default="keep_all", show_default=True, help="Token-selection policy.")
@click.option(
    "--policy-option", "options", multiple=True, callback=policy_options, help="key=value, may be repeated."
)
@click.option(
    "--keep",
    "keep_ratios",
    default="1.0",
    show_default=True,
    callback=keep_ratio_list,
    help="One profile each.",
)
@click.option(
    "--prompt", help="Text with <image> for each picture and {instruction} once; default: the family's."
)
@click.option("--views", default=1, show_default=True, help="Pictures of one question.")
@click.option("--max-text-tokens", default=64, show_default=True, help="Room for the question.")
@click.option("--max-new-tokens", default=64, show_default=True, help="Room for the answer.")
@click.option("--kv-policy", default="keep_all_kv", show_default=True, help="Policy over cache entries.")
@click.option(
    "--kv-option", "kv_options", multiple=True, callback=policy_options, help="key=value, may be repeated."
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
def export_answering_command(
    *,
    checkpoint: Path,
    out: Path,
    policy: str,
    options: dict[str, object],
    keep_ratios: tuple[float, ...],
    prompt: str | None,
    views: int,
    max_text_tokens: int,
    max_new_tokens: int,
    kv_policy: str,
    kv_options: dict[str, object],
    force: bool,
) -> None:
    """Export CHECKPOINT to a bundle that answers questions about pictures, without torch.

    Writes nothing unless every check passed: the operators TensorRT takes, ONNX Runtime against PyTorch token by token
    on every profile, and that the policy changes something.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    request = AnsweringRequest(
        checkpoint=checkpoint,
        out=out,
        policy=policy,
        options=options,
        keep_ratios=keep_ratios,
        prompt=prompt,
        views=views,
        max_text_tokens=max_text_tokens,
        max_new_tokens=max_new_tokens,
        kv_policy=kv_policy,
        kv_options=kv_options,
        overwrite=force,
    )
    try:
        with shown() as progress:
            manifest = export_answering(request, progress)
    except SaccadeError as error:
        raise click.ClickException(error.message) from error
    kept = ", ".join(f"{profile.name} {profile.keep}" for profile in manifest.profiles)
    click.echo(f"{manifest.name} -> {out}: visual tokens {kept} of {manifest.grid.tokens}")
