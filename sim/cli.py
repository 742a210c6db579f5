"""``saccade sim``: closed-loop evaluation in the tabletop, through the daemon and the real client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from saccade.proto.errors import BundleError, FileError
from saccade.proto.writable import check_file
from saccade.runtime.commands.engine_options import engine_option, lowering_option
from saccade.runtime.motion.chunk_queue import QueueMode
from saccade.sim.graphics import check_graphics
from saccade.sim.seeds import held_out_seeds

# The simulator itself is imported inside the commands, after `check_graphics` had the chance to say what is missing.

DEMO_EPISODES = 5


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
    """A parameter type for a file that can be written: found out by writing, before the work and not after it.

    Args:
        allow_dash: Whether ``-`` stands for stdout.
    """

    def __init__(self, *, allow_dash: bool = True) -> None:
        super().__init__(path_type=Path, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert to a path, and see that a file can be written there."""
        path = Path(str(super().convert(value, param, ctx)))
        is_stdout = self.allow_dash and path == Path("-")
        if not is_stdout and not (ctx and ctx.resilient_parsing):
            try:
                check_file(path)
            except FileError as error:
                self.fail(error.message, param, ctx)
        return path


Command = TypeVar("Command", bound=Callable[..., Any])
WAITS, LIVE = "waits", "live"
_OUTPUT = OutputPath()
_NAMES = CommaSeparated(str, "a,b")
_RATIOS = CommaSeparated(float, "1.0,0.25")
_STDOUT = Path("-")
_tasks_option = click.option("--tasks", type=_NAMES, help="Tasks to run; default: all that the table has.")
_json_option = click.option(
    "--json",
    "json_path",
    type=_OUTPUT,
    is_flag=False,
    flag_value=str(_STDOUT),
    metavar="[FILE]",
    help="Print all results as JSON, and the table to stderr; or write them to FILE.",
)


def _time_option(default: str) -> Callable[[Command], Command]:
    return click.option(
        "--time",
        "time_kind",
        type=click.Choice([WAITS, LIVE]),
        default=default,
        show_default=True,
        help="Whether the simulated world waits while the model thinks, or runs on.",
    )


@click.group(cls=RunByDefault)
def sim() -> None:
    """Let a bundle drive the arm in the simulated tabletop, and count how often it succeeds.

    `saccade sim BUNDLE` means `saccade sim run BUNDLE`.
    """


@sim.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@_tasks_option
@click.option("--episodes", default=100, show_default=True, help="Episodes of each task and profile.")
@click.option(
    "--keep",
    type=_RATIOS,
    default="1.0,0.25",
    show_default=True,
    help="Shares of the visual tokens to keep; the bundle has a profile for each.",
)
@click.option("--profile", "profiles", type=_NAMES, help="Profiles to run, by name, instead of --keep.")
@click.option(
    "--execute",
    default=4,
    show_default=True,
    help="Actions carried out of each chunk before the model looks again.",
)
@click.option(
    "--seed0", default=0, show_default=True, help="Seed of the first episode; the others count up from it."
)
@click.option(
    "--table", help="Table to play on (blocks, shapes); default: the one that the bundle was trained on."
)
@_time_option(WAITS)
@click.option(
    "--latency-ms",
    type=float,
    help="With --time live: simulated time that each control step takes; default: what the client measures.",
)
@click.option(
    "--motion",
    type=click.Choice(["latest", "ensemble", "blend"]),
    help="With --time live: move on while the model thinks, with limited commands 100 times a second, as a robot's "
    "control loop does; the newest chunk, a mean of all, or smooth seams.  [default: execute actions as they come]",
)
@click.option(
    "--watchdog-ms",
    type=click.FloatRange(0, min_open=True),
    help="With --motion: how long there may be no action before the arm is latched; default: three control steps.",
)
@click.option(
    "--wrong-instruction",
    is_flag=True,
    help="Control experiment: tell the model another task than the one that counts.",
)
@click.option(
    "--transport",
    type=click.Choice(["grpc", "zmq"]),
    default="grpc",
    show_default=True,
    help="How client and daemon talk.",
)
@click.option(
    "--in-process",
    is_flag=True,
    help="Run the model in this process instead of a daemon; to debug, and to compare.",
)
@engine_option
@lowering_option
@click.option(
    "--threads", default=0, show_default=True, help="Threads that run the model; 0 = one for each core."
)
@click.option(
    "--view-scorer",
    type=click.Path(path_type=Path),
    help="Bundle that answers, or one of `saccade export-scorer`, that scores the cameras once per task.",
)
@click.option(
    "--record",
    type=OutputPath(allow_dash=False),
    help="Film one episode of each task (WebP): which visual tokens were kept, merged, dropped.",
)
@click.option(
    "--receipt",
    is_flag=True,
    help="Write into the bundle's manifest how often each profile did each task: what `serve --deadline-ms` goes by.",
)
@_json_option
def run(
    bundle: Path,
    tasks: tuple[str, ...] | None,
    episodes: int,
    keep: tuple[float, ...],
    profiles: tuple[str, ...] | None,
    execute: int,
    seed0: int,
    table: str | None,
    time_kind: str,
    latency_ms: float | None,
    motion: str | None,
    watchdog_ms: float | None,
    wrong_instruction: bool,
    transport: Any,
    in_process: bool,
    engine: str,
    lowering: str,
    threads: int,
    view_scorer: Path | None,
    record: Path | None,
    receipt: bool,
    json_path: Path | None,
) -> None:
    """Count how often BUNDLE succeeds.

    Episodes run on held-out seeds, through a daemon; printed are success, latency and visual tokens.

    \b
    Examples:
        saccade sim run ./bundle --tasks reach,stack --episodes 20 --keep 1.0,0.25
        saccade sim run ./bundle --wrong-instruction --json control.json
        saccade sim run ./bundle --profile keep12.5 --episodes 5 --record episodes.webp
        saccade sim run ./bundle --time live --latency-ms 150 --motion blend
        saccade sim run ./bundle --keep 1.0,0.5,0.25 --episodes 50 --receipt
    """
    _check_time(time_kind, latency_ms, motion, watchdog_ms, receipt=receipt)
    check_graphics()
    from saccade.sim.connection import connect, profiles_for  # noqa: PLC0415
    from saccade.sim.display import LiveProgress, score_table  # noqa: PLC0415
    from saccade.sim.driven_episode import MotionPlan  # noqa: PLC0415
    from saccade.sim.evaluation import EvaluationPlan, check_tasks, evaluate, results_to_json  # noqa: PLC0415
    from saccade.sim.live_time import LiveTime  # noqa: PLC0415
    from saccade.sim.receipt import (  # noqa: PLC0415
        check_receivable,
        closed_loop_receipt,
        write_closed_loop_receipt,
    )
    from saccade.sim.recorder import ClipRecorder  # noqa: PLC0415
    from saccade.sim.report.moving_picture import write_moving_picture  # noqa: PLC0415

    live = LiveTime(latency_ms) if time_kind == LIVE else None
    seeds = held_out_seeds(seed0, episodes)
    console = _console(json_path)
    way: Any = "in-process" if in_process else transport
    with connect(
        bundle,
        transport=way,
        engine=engine,
        lowering=lowering,
        threads=threads,
        view_scorer=view_scorer,
        table=table,
        limits_itself=motion is not None,
    ) as connection:
        manifest = connection.manifest
        tasks = tasks or connection.table.templates
        check_tasks(tasks, connection.table)
        names = tuple(manifest.profile(name).name for name in profiles or profiles_for(manifest, keep))
        watchdog_ns = None if watchdog_ms is None else round(watchdog_ms * 1e6)
        driven = None if motion is None else MotionPlan(QueueMode(motion), watchdog_ns)
        plan = EvaluationPlan(tasks, names, seeds, execute, wrong_instruction, live, motion=driven)
        if receipt:
            check_receivable(plan, bundle, connection.table)
        with LiveProgress(plan, console) as progress:
            recorder = ClipRecorder.of_smallest(manifest, names, progress)
            results = evaluate(connection, plan, progress if record is None else recorder)
        console.print(score_table(results.scores()))
        if record is not None:
            write_moving_picture(tuple(recorder.clips.values()), manifest.grid, record)
            console.print(f"recorded: {record}")
        if receipt:
            write_closed_loop_receipt(bundle, closed_loop_receipt(results, connection))
            console.print(f"receipt: {bundle}")
        _write_json(results_to_json(results, connection), json_path, console)


@sim.command()
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Bundle to show; default: saccade-mini, which is installed with saccade.",
)
@click.option(
    "--out",
    type=OutputPath(allow_dash=False),
    default=Path("saccade-demo.html"),
    show_default=True,
    help="Report to write (HTML).",
)
@click.option(
    "--episodes", default=DEMO_EPISODES, show_default=True, help="Episodes of each task and profile."
)
@_tasks_option
@click.option(
    "--keep",
    type=_RATIOS,
    help="Shares of the visual tokens to compare; default: all of them, and the bundle's share nearest to a quarter.",
)
@_time_option(LIVE)
@_json_option
def demo(
    bundle: Path | None,
    out: Path,
    episodes: int,
    tasks: tuple[str, ...] | None,
    keep: tuple[float, ...] | None,
    time_kind: str,
    json_path: Path | None,
) -> None:
    """See it work, and read the report.

    Daemon, client and arm on every task of the bundle's table: all visual tokens against few, on the same seeds. The
    report begins with what came out: success, speed and tokens, with their intervals at 95 %.

    \b
    Examples:
        saccade sim demo --out report.html
        saccade sim demo --episodes 20 --time waits
    """
    check_graphics()
    from saccade.sim.demo import run_demo  # noqa: PLC0415
    from saccade.sim.live_time import LiveTime  # noqa: PLC0415

    started = time.monotonic()
    console = _console(json_path)
    seeds = held_out_seeds(0, episodes)
    live = LiveTime() if time_kind == LIVE else None
    shown = run_demo(
        bundle or bundled_mini(), tasks=tasks, keep=keep, seeds=seeds, live=live, console=console
    )
    out.write_text(shown.report, encoding="utf-8")
    console.print(
        f"report: [bold]{out.resolve()}[/] ({len(shown.report) / 1e6:.1f} MB), {time.monotonic() - started:.0f} s"
    )
    _write_json(shown.results, json_path, console)


@sim.command()
@_tasks_option
@click.option("--table", help="Table to play on (blocks, shapes); default: the bundled model's.")
@click.option("--episodes", default=100, show_default=True, help="Episodes of each task.")
@click.option(
    "--seed0", default=0, show_default=True, help="Seed of the first episode; the others count up from it."
)
@_json_option
def expert(
    tasks: tuple[str, ...] | None, table: str | None, episodes: int, seed0: int, json_path: Path | None
) -> None:
    """Count how often the scripted experts succeed.

    They see the true state: an upper bound for every model.

    \b
    Example:
        saccade sim expert --episodes 50
    """
    check_graphics()
    from saccade.sim.evaluation import check_tasks  # noqa: PLC0415
    from saccade.sim.scripted_success import scripted_success_rate  # noqa: PLC0415
    from saccade.sim.tabletop.tables import BUNDLED, table_named  # noqa: PLC0415

    played_on = BUNDLED if table is None else table_named(table)
    tasks = tasks or played_on.templates
    check_tasks(tasks, played_on)
    console, results = _console(json_path), {}
    for template in tasks:
        rate = scripted_success_rate(template, held_out_seeds(seed0, episodes), played_on)
        low, high = rate.interval
        console.print(
            f"{template:<9} {rate.successes}/{rate.episodes}  {rate.rate:.1%}  (95 %: {low:.1%} to {high:.1%})",
            highlight=False,
        )
        results[template] = {**asdict(rate), "rate": rate.rate, "interval": rate.interval}
    _write_json(results, json_path, console)


def _check_time(
    time_kind: str, latency_ms: float | None, motion: str | None, watchdog_ms: float | None, *, receipt: bool
) -> None:
    """Refuse options that do not go together."""
    for option, value in (("--latency-ms", latency_ms), ("--motion", motion)):
        if value is not None and time_kind != LIVE:
            raise click.UsageError(f"expected --time live with {option}, found a world that waits.")
    if watchdog_ms is not None and motion is None:
        raise click.UsageError("expected --motion with --watchdog-ms, found none.")
    if motion is not None and receipt:
        raise click.UsageError(
            "expected no --motion with --receipt: --deadline-ms goes by chunks as they come."
        )


def _console(json_path: Path | None) -> Console:
    """Where people read: not where JSON goes."""
    return Console(stderr=json_path == _STDOUT)


def _write_json(results: Mapping[str, Any], path: Path | None, console: Console) -> None:
    """Write results where ``--json`` says, if it says anything."""
    if path is None:
        return
    text = json.dumps(results)
    if path == _STDOUT:
        click.echo(text)
    else:
        path.write_text(text + "\n")
        console.print(f"results: {path}")


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
