"""``saccade tune``: search a policy's options on recorded frames."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from saccade.export.commands.options import head_step_option, policy_options, tokenizer_option
from saccade.export.control.tuned import Tuned
from saccade.export.tuning.objectives import OBJECTIVES
from saccade.export.tuning.search import TuneRequest
from saccade.export.tuning.search import tune as search
from saccade.export.tuning.study import is_database
from saccade.proto.errors import FileError
from saccade.proto.writable import check_file, check_folder, check_name

_EXAMPLE = """\b
Example:
  saccade tune checkpoint --policy vflowopt --keep 0.25 --frames frames.npz --out tuned/keep25.json
  saccade export checkpoint --policy vflowopt --tuned tuned/keep25.json --out bundle
"""


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@tokenizer_option
@head_step_option
@click.option("--policy", required=True, help="Token-selection policy whose options are searched.")
@click.option(
    "--keep", "keep_ratio", required=True, type=float, help="Share of the visual tokens to keep, e.g. 0.25."
)
@click.option(
    "--frames",
    required=True,
    type=click.Path(path_type=Path),
    help="Recorded frames (.npz) to judge by; no labels needed.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File to write the result to (.json)."
)
@click.option(
    "--objective",
    default="action_query",
    show_default=True,
    type=click.Choice(list(OBJECTIVES)),
    help="How the pruned model is compared with the unpruned one. "
    + "; ".join(f"{name}: {objective.meaning}" for name, objective in OBJECTIVES.items())
    + ".",
)
@click.option(
    "--trials",
    default=50,
    show_default=True,
    type=click.IntRange(min=1),
    help="Sets of options to try, those of a run that was cut off included.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the search; with --study each worker draws its own."
)
@click.option(
    "--study",
    metavar="FILE|URL",
    help="Where workers share the search: a journal (of one machine, or on a file system that several share), or a "
    "database, e.g. postgresql://…; type the same command once for each. Default: a journal beside --out, not shared.",
)
@click.option(
    "--policy-option",
    "options",
    multiple=True,
    callback=policy_options,
    metavar="KEY=VALUE",
    help="Option that is fixed instead of searched; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tune(
    *,
    checkpoint: Path,
    tokenizer: Path | None,
    head_step: str | None,
    policy: str,
    keep_ratio: float,
    frames: Path,
    out: Path,
    objective: str,
    trials: int,
    seed: int,
    study: str | None,
    options: dict[str, object],
    as_json: bool,
) -> None:
    """Search a policy's options for CHECKPOINT at one keep ratio.

    The best options are those by which the pruned model differs least from the unpruned one. A search that was cut off
    goes on when the same command is typed again: its journal lies beside --out. Workers that share a --study try
    --trials sets of options together; each writes the best one at its end, the last worker that of all.
    """
    check_name(out)
    place = str(_journal(out)) if study is None else study
    check_folder(out.parent)
    for path in (out,) if is_database(place) else (out, Path(place)):
        check_file(path)
    request = TuneRequest(
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        head_step=head_step,
        policy=policy,
        keep_ratio=keep_ratio,
        frames=frames,
        study=place,
        is_shared=study is not None,
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
    result.write(out)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        _report(result, out)


def _journal(out: Path) -> Path:
    """Return the place of a journal that is not shared."""
    journal = out.with_suffix(".journal")
    if journal == out:
        raise FileError(f"expected a result (.json) at {out}, found the name of its journal: choose another.")
    return journal


def _report(result: Tuned, out: Path) -> None:
    console = Console()
    console.print(
        f"{result.policy} at {result.keep_ratio:.1%}: {result.objective} {result.default_value:.4f} by default, "
        f"{result.value:.4f} after {result.trials} trials ({result.refused} refused) -> {out}"
    )
    console.print_json(json.dumps(result.options))
