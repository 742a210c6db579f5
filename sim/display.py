"""What a person sees while an evaluation runs, and the table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from saccade.sim.closed_loop import Episode, Moment
from saccade.sim.evaluation import ALL_TASKS, EvaluationPlan
from saccade.sim.scoring import Score, step_latencies_ns


class LiveProgress:
    """One bar for each task and profile, with successes so far; a context manager and a watcher.

    Args:
        plan: What will be run.
        console: Where to draw.
    """

    def __init__(self, plan: EvaluationPlan, console: Console) -> None:
        self._progress = Progress(
            TextColumn("  {task.fields[template]:<10}[dim]{task.fields[profile]:<9}[/]"),
            BarColumn(28, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[successes]} solved", style="green"),
            TextColumn("{task.fields[latency]}", style="dim"),
            TimeElapsedColumn(),
            console=console,
        )
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._successes: Counter[tuple[str, str]] = Counter()
        for template in plan.templates:
            for profile in plan.profiles:
                self._bars[template, profile] = self._progress.add_task(
                    "",
                    total=len(plan.seeds),
                    start=False,
                    template=template,
                    profile=profile,
                    successes=0,
                    latency="",
                )

    def begin(self, template: str, profile: str, seed: int) -> Callable[[Moment], None] | None:
        """Start the clock of the bar with its first episode."""
        self._progress.start_task(self._bars[template, profile])
        return None

    def end(self, episode: Episode) -> None:
        """Move the bar of the episode on."""
        cell = episode.template, episode.profile
        self._successes[cell] += episode.is_success
        last = step_latencies_ns([episode])
        self._progress.update(
            self._bars[cell],
            advance=1,
            successes=self._successes[cell],
            latency=f"{sorted(last)[len(last) // 2] / 1e6:.1f} ms a step" if last else "",
        )

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def score_table(scores: list[Score]) -> Table:
    """Return the results as a table of at most 80 columns.

    Latency and visual tokens are over all control steps, warm-up included.

    Args:
        scores: Rows of the table.
    """
    table = Table(
        box=box.SIMPLE_HEAD, header_style="dim", padding=(0, 1), collapse_padding=True, pad_edge=False
    )
    table.add_column("task", no_wrap=True)
    table.add_column("profile", no_wrap=True)
    for name in ("success", "", "95 %", "p50 ms", "p99 ms", "tokens", "clamped"):
        table.add_column(name, justify="right", no_wrap=True, style="dim" if name == "95 %" else None)
    dropped = [name for name in ("refused", "late") if any(getattr(row, name) for row in scores)]
    for name in dropped:
        table.add_column(name, justify="right", no_wrap=True, style="red")
    previous = ""
    for row in scores:
        low, high = row.success.interval
        if previous and row.template != previous:
            table.add_section()
        cells = [
            "" if row.template == previous else row.template,
            row.profile,
            f"{row.success.successes}/{row.success.episodes}",
            f"{row.success.rate:.0%}",
            f"{100 * low:.0f}-{100 * high:.0f}",
            f"{row.p50_ns / 1e6:.1f}",
            f"{row.p99_ns / 1e6:.1f}",
            f"{row.visual_tokens:.0f}",
            str(row.clamped),
        ]
        cells += [str(getattr(row, name)) for name in dropped]
        table.add_row(*cells, style="bold" if row.template == ALL_TASKS else None)
        previous = row.template
    return table
