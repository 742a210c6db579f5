"""``saccade tune``: search a policy's options on recorded frames."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from saccade.export.commands.options import policy_options
from saccade.export.control.tuned import Tuned
from saccade.export.tuning.objectives import OBJECTIVES
from saccade.export.tuning.search import TuneRequest
from saccade.export.tuning.search import tune as search
from saccade.proto.errors import SaccadeError

_EXAMPLE = """\b
Example:
  saccade tune checkpoint --policy vflowopt --keep 0.25 --frames frames.npz --out tuned/keep25.json
  saccade export checkpoint --policy vflowopt --tuned tuned/keep25.json --out bundle
"""


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--policy", required=True, help="Token-selection policy.")
@click.option(
    "--keep", "keep_ratio", required=True, type=float, help="Share of visual tokens of the profile."
)
@click.option(
    "--frames",
    required=True,
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz), no labels needed.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Result to write (.json).")
@click.option(
    "--objective",
    default="action_query",
    show_default=True,
    type=click.Choice(list(OBJECTIVES)),
    help="; ".join(f"{name}: {objective.meaning}" for name, objective in OBJECTIVES.items()),
)
@click.option("--trials", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--policy-option",
    "options",
    multiple=True,
    callback=policy_options,
    help="key=value that is not searched.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tune(
    *,
    checkpoint: Path,
    policy: str,
    keep_ratio: float,
    frames: Path,
    out: Path,
    objective: str,
    trials: int,
    seed: int,
    options: dict[str, object],
    as_json: bool,
) -> None:
    """Search the options of POLICY for CHECKPOINT at one keep ratio.

    Judged by how little the pruned model differs from the unpruned one. Cut off, the same command goes on from its
    journal, which lies beside OUT.
    """
    request = TuneRequest(
        checkpoint=checkpoint,
        policy=policy,
        keep_ratio=keep_ratio,
        frames=frames,
        journal=out.with_suffix(".journal"),
        options=options,
        objective=objective,
        trials=trials,
        seed=seed,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as display:
            task = display.add_task(objective, total=trials)

            def show(done: int, trials: int, best: float | None, default: float) -> None:
                found = "none yet" if best is None else f"{best:.4f}"
                display.update(
                    task,
                    completed=done,
                    total=trials,
                    description=f"{objective}: default {default:.4f}, best {found}",
                )

            result = search(request, show)
    except SaccadeError as error:
        raise click.ClickException(error.message) from error
    result.write(out)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        _report(result, out)


def _report(result: Tuned, out: Path) -> None:
    console = Console()
    console.print(
        f"{result.policy} at {result.keep_ratio:.1%}: {result.objective} {result.default_value:.4f} by default, "
        f"{result.value:.4f} after {result.trials} trials ({result.refused} refused) -> {out}"
    )
    console.print_json(json.dumps(result.options))
