"""``saccade sim``: closed-loop evaluation in the tabletop, through the daemon and the real client."""

from __future__ import annotations

import json
import os
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from saccade.proto.errors import BundleError
from saccade.sim.graphics import check_graphics
from saccade.sim.seeds import held_out_seeds

# The simulator itself is imported inside the commands, after `check_graphics` had the chance to say what is missing.

DEMO_EPISODES = 6
_TASKS = "reach,push,place,stack"


class RunByDefault(click.Group):
    """``saccade sim BUNDLE ...`` means ``saccade sim run BUNDLE ...``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take a first argument that is no command for a bundle."""
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


class CommaSeparated(click.ParamType):
    """A parameter type that reads ``a,b,c`` as a tuple.

    Args:
        kind: Turns each part into its value.
        name: Example that is shown in ``--help``.
    """

    def __init__(self, kind: type, name: str) -> None:
        self._kind = kind
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Split the text at its commas and convert each part."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"expected {self._kind.__name__}s such as {self.name}, found {value!r}", param, ctx)


class OutputPath(click.Path):
    """A parameter type for a file that can be written: found out before the work, not after it.

    Args:
        allow_dash: Whether ``-`` stands for stdout.
    """

    def __init__(self, *, allow_dash: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert to a path, and see that its folder can be written to."""
        path = Path(str(super().convert(value, param, ctx)))
        is_stdout = self.allow_dash and path == Path("-")
        if not is_stdout and not os.access(path.parent, os.W_OK):
            self.fail(f"expected a folder that can be written to at {path.parent}, found none.", param, ctx)
        return path


_OUTPUT = OutputPath()
_WORDS = CommaSeparated(str, "a,b")
_RATIOS = CommaSeparated(float, "1.0,0.25")


@click.group(cls=RunByDefault)
def sim() -> None:
    """Let a bundle drive the arm in the simulated tabletop. `saccade sim BUNDLE` = `saccade sim run BUNDLE`."""


@sim.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--tasks", type=_WORDS, default=_TASKS, show_default=True, help="Task templates.")
@click.option("--episodes", default=100, show_default=True, help="For each task and profile.")
@click.option("--keep", type=_RATIOS, default="1.0,0.25", show_default=True, help="Keep ratios to run.")
@click.option("--profile", "profiles", type=_WORDS, help="Profiles by name; replaces --keep.")
@click.option("--execute", default=4, show_default=True, help="Actions executed from each chunk.")
@click.option("--seed0", default=0, show_default=True, help="Seed of the first episode.")
@click.option("--wrong-instruction", is_flag=True, help="Control: tell the model another task.")
@click.option("--transport", type=click.Choice(["grpc", "zmq"]), default="grpc", show_default=True)
@click.option("--in-process", is_flag=True, help="No daemon: to debug, and to compare.")
@click.option("--threads", default=0, show_default=True, help="Threads of the engine; 0 = one for each core.")
@click.option("--view-scorer", type=click.Path(path_type=Path), help="Scorer bundle to serve beside BUNDLE.")
@click.option(
    "--record",
    type=OutputPath(allow_dash=False),
    help="Write one episode of each task as a moving picture (WebP): which tokens were kept, merged, dropped.",
)
@click.option(
    "--json",
    "json_path",
    type=_OUTPUT,
    help="Write all results; - is stdout.",
)
def run(
    bundle: Path,
    tasks: tuple[str, ...],
    episodes: int,
    keep: tuple[float, ...],
    profiles: tuple[str, ...] | None,
    execute: int,
    seed0: int,
    wrong_instruction: bool,
    transport: Any,
    in_process: bool,
    threads: int,
    view_scorer: Path | None,
    record: Path | None,
    json_path: Path | None,
) -> None:
    """Run episodes with BUNDLE on held-out seeds and print success, latency and tokens.

    \b
    Examples:
        saccade sim run ./bundle --tasks reach,stack --episodes 20 --keep 1.0,0.25
        saccade sim run ./bundle --wrong-instruction --json control.json
        saccade sim run ./bundle --profile keep12.5 --episodes 5 --record episodes.webp
    """
    check_graphics()
    from saccade.sim.connection import connect, profiles_for  # noqa: PLC0415
    from saccade.sim.display import LiveProgress, score_table  # noqa: PLC0415
    from saccade.sim.evaluation import EvaluationPlan, check_tasks, evaluate, results_to_json  # noqa: PLC0415
    from saccade.sim.recorder import ClipRecorder  # noqa: PLC0415
    from saccade.sim.report.moving_picture import write_moving_picture  # noqa: PLC0415

    check_tasks(tasks)
    seeds = held_out_seeds(seed0, episodes)
    console = Console(stderr=json_path == Path("-"))
    way: Any = "in-process" if in_process else transport
    with connect(bundle, transport=way, threads=threads, view_scorer=view_scorer) as connection:
        manifest = connection.manifest
        names = tuple(manifest.profile(name).name for name in profiles or profiles_for(manifest, keep))
        plan = EvaluationPlan(tasks, names, seeds, execute, wrong_instruction)
        with LiveProgress(plan, console) as progress:
            recorder = ClipRecorder.of_smallest(manifest, names, progress)
            results = evaluate(connection, plan, progress if record is None else recorder)
        console.print(score_table(results.scores()))
        if record is not None:
            write_moving_picture(tuple(recorder.clips.values()), manifest.grid, record)
            console.print(f"recorded: {record}")
        if json_path is not None:
            text = json.dumps(results_to_json(results, connection)) + "\n"
            if json_path == Path("-"):
                click.echo(text, nl=False)
            else:
                json_path.write_text(text)
                console.print(f"results: {json_path}")


@sim.command()
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Default: the saccade-mini that ships with us."
)
@click.option("--out", type=_OUTPUT, default=Path("saccade-demo.html"), show_default=True)
@click.option("--episodes", default=DEMO_EPISODES, show_default=True, help="For each task and profile.")
@click.option("--tasks", type=_WORDS, default=_TASKS, show_default=True, help="Task templates.")
@click.option("--keep", type=_RATIOS, default="1.0,0.25", show_default=True, help="Keep ratios to compare.")
def demo(
    bundle: Path | None, out: Path, episodes: int, tasks: tuple[str, ...], keep: tuple[float, ...]
) -> None:
    """See it work: daemon, client and arm, at full and at 25 % of the visual tokens; then read the report.

    \b
    Example:
        saccade sim demo --out report.html
    """
    check_graphics()
    from saccade.sim.demo import run_demo  # noqa: PLC0415

    started = time.monotonic()
    console = Console()
    seeds = held_out_seeds(0, episodes)
    report = run_demo(bundle or bundled_mini(), tasks=tasks, keep=keep, seeds=seeds, console=console)
    out.write_text(report, encoding="utf-8")
    console.print(
        f"report: [bold]{out.resolve()}[/] ({len(report) / 1e6:.1f} MB), {time.monotonic() - started:.0f} s"
    )


@sim.command()
@click.option("--tasks", type=_WORDS, default=_TASKS, show_default=True, help="Task templates.")
@click.option("--episodes", default=100, show_default=True, help="For each task.")
@click.option("--seed0", default=0, show_default=True, help="Seed of the first episode.")
def expert(tasks: tuple[str, ...], episodes: int, seed0: int) -> None:
    """Let the scripted experts, who know the state, do the tasks: an upper bound for every model.

    \b
    Example:
        saccade sim expert --episodes 50
    """
    check_graphics()
    from saccade.sim.evaluation import check_tasks  # noqa: PLC0415
    from saccade.sim.scripted_success import scripted_success_rate  # noqa: PLC0415

    check_tasks(tasks)
    for template in tasks:
        rate = scripted_success_rate(template, held_out_seeds(seed0, episodes))
        low, high = rate.interval
        click.echo(
            f"{template:<6} {rate.successes}/{rate.episodes}  {rate.rate:.1%}  (95 %: {low:.1%} to {high:.1%})"
        )


def bundled_mini() -> Path:
    """Return the bundle that ships with saccade.

    Raises:
        BundleError: The installation has none.
    """
    path = Path(str(files("saccade.sim") / "saccade_mini" / "bundle"))
    if not (path / "manifest.json").is_file():
        raise BundleError(
            f"expected the saccade-mini bundle at {path}, found none: install saccade with its package data, "
            f"or name another with --bundle."
        )
    return path
