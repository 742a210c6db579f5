"""``--realtime-priority``, ``--lock-memory``, ``--cores`` and ``--spin-us`` of commands that run control steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from saccade.runtime.paced_spin import MOST_SPIN_US
from saccade.runtime.real_time import RealTime

Command = TypeVar("Command", bound=Callable[..., Any])
spin_option = click.option(
    "--spin-us",
    default=0,
    show_default=True,
    type=click.IntRange(0, MOST_SPIN_US),
    help="Stay awake so many microseconds before the next control step of a robot that asks at a steady rate, which "
    "keeps a core busy; 0 = sleep.",
)


def real_time_options(command: Command) -> Any:
    """Add the options to a command, which takes them as ``real_time``.

    Args:
        command: Function with a keyword argument ``real_time``, a :class:`saccade.runtime.real_time.RealTime`.
    """

    @wraps(command)
    def with_real_time(
        *args: Any, realtime_priority: int, lock_memory: bool, cores: tuple[int, ...], **options: Any
    ) -> Any:
        asked = RealTime(realtime_priority, lock_memory, cores)
        return command(*args, real_time=asked, **options)

    for option in (
        click.option(
            "--cores",
            multiple=True,
            type=click.IntRange(0),
            metavar="N",
            help="A processor to run on, to be repeated; keep others off it for the gain.  [default: any]",
        ),
        click.option("--lock-memory", is_flag=True, help="Keep all memory from being swapped out."),
        click.option(
            "--realtime-priority",
            default=0,
            show_default=True,
            type=click.IntRange(0, 99),
            help="Run before every ordinary program, and before real-time ones of less; 0 = an ordinary program.",
        ),
    ):
        with_real_time = option(with_real_time)
    return with_real_time
