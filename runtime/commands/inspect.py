"""``saccade inspect``: look at a bundle or a checkpoint before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console

from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.devices import DEVICES, find_device
from saccade.proto.distribution import install_hint
from saccade.proto.errors import BundleIntegrityError, InputError
from saccade.proto.inspection import INSPECTORS, Inspection, InspectionRequest
from saccade.proto.picture_fit import parse_picture_size
from saccade.proto.roofline import NATIVE, PRECISIONS
from saccade.proto.strict_json import to_json
from saccade.runtime.bundle import Bundle
from saccade.runtime.inspection.bundle import inspect_bundle
from saccade.runtime.inspection.report import as_json as to_content
from saccade.runtime.inspection.report import show
from saccade.runtime.inspection.verdict import judge

_CHECKPOINT = "config.json"
_KEEP = (1.0, 0.5, 0.25, 0.125)


def _ratios(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    del context
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"expected numbers such as 1.0,0.25, found {value!r}", param=parameter
        ) from error


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    del context
    try:
        return None if value is None else parse_picture_size(value)
    except InputError as error:
        raise click.BadParameter(error.message, param=parameter) from error


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    "keep_ratios",
    callback=_ratios,
    help="Shares of the visual tokens to keep, e.g. 1.0,0.25; default: those of the bundle, or 1.0,0.5,0.25,0.125.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    help=f"Machine to judge for, may be repeated; default: all of {', '.join(device.name for device in DEVICES)}.",
)
@click.option(
    "--dtype",
    type=click.Choice(list(PRECISIONS)),
    default=NATIVE,
    show_default=True,
    help="Number format of the weights of language model and action expert; native = what the machine computes in.",
)
@click.option("--policy", help="Count the cuts of this token-selection policy. Checkpoints only.")
@click.option(
    "--views",
    type=click.IntRange(1),
    help="Number of cameras, or of pictures in one question. Checkpoints only.",
)
@click.option(
    "--frames",
    type=click.IntRange(0),
    default=0,
    help="Frames taken of each video; 0 = still pictures. Checkpoints only.",
)
@click.option(
    "--image-size",
    metavar="WIDTHxHEIGHT",
    callback=_size,
    help="Size of the pictures in pixels, e.g. 640x480. Checkpoints only.",
)
@click.option(
    "--text-tokens",
    type=click.IntRange(1),
    help="Longest instruction or question, in tokens. Checkpoints only.",
)
@click.option("--new-tokens", type=click.IntRange(1), help="Longest answer, in tokens. Checkpoints only.")
@click.option(
    "--data-set",
    help="Which data set's statistics count, where a checkpoint has those of several. Checkpoints only.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="The model's tokenizer.json, or a folder with one, where the checkpoint has none. Checkpoints only.",
)
@click.option(
    "--head-step",
    help="Training step of the heads, where a checkpoint has those of several (OpenVLA-OFT). Checkpoints only.",
)
@click.option(
    "--config-only",
    is_flag=True,
    help="Read the configuration alone; weight files may be missing. Checkpoints only.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print everything as JSON, with the manifest if it is a bundle."
)
def inspect(
    *,
    path: Path,
    keep_ratios: tuple[float, ...] | None,
    devices: tuple[str, ...],
    dtype: str,
    as_json: bool,
    config_only: bool,
    **open_points: Any,
) -> None:
    """Verify the bundle or checkpoint at PATH and show what is in it, what it costs, and where pruning pays.

    Nothing runs and no weight is read. Times are lower bounds: the longer of multiplying at a machine's peak and
    reading at its bandwidth. Fewer visual tokens shorten what is compute-bound, and nothing else.

    \b
    Example:
        saccade inspect ./saccade-mini
        saccade inspect openvla-7b --device agx-orin --dtype int4 --policy vla_pruner
    """
    machines = [find_device(name) for name in devices] or list(DEVICES)
    extra: dict[str, Any] = {}
    if (path / MANIFEST_NAME).is_file():
        _refuse_open_points({**open_points, "config_only": config_only})
        bundle = Bundle.open(path, with_graphs=False)
        inspection = inspect_bundle(bundle, keep_ratios)
        extra["manifest"] = to_json(bundle.manifest)
    elif (path / _CHECKPOINT).is_file():
        request = InspectionRequest(
            keep_ratios=keep_ratios or _KEEP, reads_weights=not config_only, **open_points
        )
        inspection = _checkpoint_inspector()(path, request)
    else:
        raise BundleIntegrityError(
            f"expected a bundle with {MANIFEST_NAME} or a checkpoint with {_CHECKPOINT}, found none at {path}."
        )
    verdicts = [
        judge(inspection.budgets, device, PRECISIONS[dtype]) for device in machines if inspection.budgets
    ]
    if as_json:
        click.echo(json.dumps({**to_content(inspection, verdicts), **extra}))
    else:
        show(inspection, verdicts, Console(), tells_sources=bool(devices))


def _refuse_open_points(given: dict[str, Any]) -> None:
    """A bundle leaves nothing open."""
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if named:
        raise InputError(
            f"expected a checkpoint with {', '.join(named)}, found a bundle, which fixes all of that."
        )


def _checkpoint_inspector() -> Callable[[Path, InspectionRequest], Inspection]:
    """Return the build machine's half."""
    found = [point for point in entry_points(group=INSPECTORS) if point.name == "checkpoint"]
    try:
        if not found:
            raise ImportError(f"no entry point in {INSPECTORS}")
        return cast("Callable[[Path, InspectionRequest], Inspection]", found[0].load())
    except ImportError as error:
        raise click.ClickException(
            f"a checkpoint cannot be inspected here ({error}): {install_hint('export')}."
        ) from error
