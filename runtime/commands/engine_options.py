"""``--engine``, ``--lowering`` and ``--plans``, the same for every command that runs a bundle's graphs."""

from __future__ import annotations

from pathlib import Path

import click

from saccade.proto.lowering_spec import CANONICAL
from saccade.runtime.engines.registry import DEFAULT_ENGINE, ENGINES

engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=DEFAULT_ENGINE,
    show_default=True,
    help="What runs the model. One that this machine lacks is refused: no other is taken in its place.",
)
plans_option = click.option(
    "--plans",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the plans that `saccade build` makes for TensorRT.  [default: saccade/plans in the user's cache]",
)
lowering_option = click.option(
    "--lowering",
    default=CANONICAL,
    show_default=True,
    help="Which form of the graphs runs: the canonical one, or one that `saccade lower` added to the bundle.",
)
