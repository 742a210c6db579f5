"""What several commands take: keep ratios, options of policies, what every export has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def keep_ratio_list(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    """Parse keep ratios, comma between them."""
    del context
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"expected numbers such as 1.0,0.5, found {text!r}", param=parameter
        ) from error


def policy_options(
    context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, object]:
    """Parse repeated key=value options; a value is JSON, or text if it is not."""
    del context
    options: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"expected key=value, found {pair!r}", param=parameter)
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
    return options


def bundle_name(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Return a bundle's name without white space around it."""
    del context
    name = None if text is None else text.strip()
    if name is not None and not (name and name.isprintable()):
        raise click.BadParameter(f"expected a name in one line, found {text!r}", param=parameter)
    return name


def keep_option(default: str) -> Decorator:
    """Return ``--keep``.

    Args:
        default: Keep ratios, comma between them.
    """
    return click.option(
        "--keep",
        "keep_ratios",
        default=default,
        show_default=True,
        callback=keep_ratio_list,
        help="Shares of the visual tokens to keep; each becomes a profile of the bundle.",
    )


def policy_option(default: str) -> Decorator:
    """Return ``--policy``.

    Args:
        default: Registry name of a policy.
    """
    return click.option(
        "--policy",
        default=default,
        show_default=True,
        help="Token-selection policy; keep_all keeps every token.",
    )


options_of_policy = click.option(
    "--policy-option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=policy_options,
    help="Option of the policy, e.g. window=3; may be repeated.",
)
greedy_option = click.option(
    "--greedy",
    type=click.Choice(["unrolled", "loop"]),
    default="unrolled",
    show_default=True,
    help="Graph of policies that pick one token after another: unrolled = node by node; loop = smaller engines where "
    "hundreds of tokens are kept.",
)
tensorrt_option = click.option(
    "--check-tensorrt-rtx",
    "checks_tensorrt_rtx",
    is_flag=True,
    help="Have TensorRT-RTX read and build every graph as well; needs the extra 'tensorrt-rtx', but no GPU.",
)
force_option = click.option("--force", is_flag=True, help="Replace the bundle at --out, if there is one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
checkpoint_argument = click.argument("checkpoint", type=click.Path(path_type=Path))
tokenizer_option = click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="The model's tokenizer.json, or a folder with one, where the checkpoint has none.",
)
head_step_option = click.option(
    "--head-step",
    metavar="STEP",
    help="Training step of the heads (<head>--STEP_checkpoint.pt), where the checkpoint has those of several.",
)
name_option = click.option(
    "--name",
    callback=bundle_name,
    help="Name of the bundle, as its manifest and messages have it; default: the model's.",
)
out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle to write."
)
recorded_frames_option = click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz) on which ONNX Runtime is compared with PyTorch; default: random ones.",
)
