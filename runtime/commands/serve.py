"""``saccade serve``: the daemon, in the foreground."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any

import click

from saccade.runtime.commands.engine_options import engine_option, lowering_option, plans_option
from saccade.runtime.commands.real_time_options import real_time_options, spin_option
from saccade.runtime.daemon import Daemon, DaemonConfig, run
from saccade.runtime.deadline.allowed import DEFAULT_SUCCESS_KEPT
from saccade.runtime.motion.operator_limits import OperatorLimits
from saccade.runtime.real_time import RealTime, ask_for
from saccade.runtime.servers.endpoint import DEFAULT_FROZEN_FRAMES

_BUNDLE = click.Path(path_type=Path, file_okay=False)


class _Duration(click.FloatRange):
    """A finite number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what is no duration."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"expected a finite number, found {value}", param, ctx)
        return number


@click.command()
@click.argument("bundle", type=_BUNDLE)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    default="127.0.0.1:7447",
    show_default=True,
    help="Where gRPC listens; port 0 takes a free one.",
)
@click.option("--zmq-bind", metavar="HOST:PORT", help="Where ZeroMQ listens as well; default: no ZeroMQ.")
@click.option(
    "--insecure-bind",
    is_flag=True,
    help="Allow addresses that other machines reach. Clients are not authenticated: whoever reaches one drives the "
    "robot.",
)
@engine_option
@lowering_option
@plans_option
@click.option(
    "--threads",
    default=0,
    show_default=True,
    help="Threads that run the model; 0 = one for each core.",
)
@real_time_options
@spin_option
@click.option(
    "--lean",
    is_flag=True,
    help="Share one copy of the weights between all profiles: less memory, slower steps.",
)
@click.option(
    "--lease-s",
    type=_Duration(0),
    default=10.0,
    show_default=True,
    help="Seconds of silence after which another client may take over the robot.",
)
@click.option(
    "--max-age-ms",
    type=_Duration(0),
    help="Refuse observations captured more than this many milliseconds ago, and drop actions that come later than "
    "that; 0 = no limit.  [default: as long as one action chunk lasts]",
)
@click.option(
    "--max-frozen-frames",
    type=click.IntRange(0),
    default=DEFAULT_FROZEN_FRAMES,
    show_default=True,
    help="Refuse a camera that sends the same pixels this many times in a row; 0 = never.",
)
@click.option(
    "--refuse-far-proprio",
    is_flag=True,
    help="Refuse observations whose proprioception is far outside the data set's statistics, as degrees are where the "
    "model has radians; without it they are named in the chunk, counted and logged.",
)
@click.option(
    "--noise-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the noise that flow-matching models (π0, SmolVLA) draw actions from; the same seed gives the same "
    "actions.",
)
@click.option(
    "--view-scorer",
    type=_BUNDLE,
    help="Second bundle that scores the cameras once per task, for policies that weigh them, such as quota: one of "
    "`saccade export-answering --max-text-tokens 256` is asked in which of them it sees what the task is about; one of "
    "`saccade export-scorer` measures the instruction's attention.",
)
@click.option(
    "--answerer",
    type=_BUNDLE,
    help="Second bundle (`saccade export-answering`) that answers questions about pictures while the robot moves; ask "
    "with `saccade ask --daemon`.",
)
@click.option(
    "--answerer-threads",
    default=1,
    show_default=True,
    help="Threads that run the answerer, and a view scorer that answers; 0 = one for each core.",
)
@click.option(
    "--deadline-ms",
    type=_Duration(0),
    default=0.0,
    help="Have each chunk ready this many milliseconds after its observation was captured: the profile of each control "
    "step is the largest that is over in time, that which the client asks for at most.  [default: what it asks for]",
)
@click.option(
    "--deadline-profile",
    "deadline_profiles",
    multiple=True,
    metavar="NAME",
    help="With --deadline-ms: a profile to choose from, to be repeated; default: those that the bundle's closed-loop "
    "receipt proves.",
)
@click.option(
    "--success-kept",
    type=click.FloatRange(0, 1),
    default=DEFAULT_SUCCESS_KEPT,
    show_default=True,
    help="With --deadline-ms: share of the successes of `full` that a profile must have kept in each task.",
)
@click.option(
    "--limits",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Limits of this cell (.json), narrower than the bundle's: lists low, high, velocity, acceleration, jerk with "
    "a number or null for each axis. Wider ones are refused.",
)
@click.option(
    "--over-limits",
    type=click.Choice(["clamp", "refuse"]),
    default="clamp",
    show_default=True,
    help="What becomes of a chunk that does not follow on from the commands before within the limits: it is moved "
    "within and counted, or refused as a whole.",
)
@click.option(
    "--stop-signal",
    metavar="NAME",
    default="",
    help="Signal that stops the robot, such as SIGUSR1, until a reset releases it. Not a safety-rated stop.",
)
@click.option(
    "--stop-fd",
    type=click.IntRange(0),
    help="File descriptor that stops the robot when a byte can be read there or its other end closes: a button's "
    "driver. Not a safety-rated stop.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON with the addresses once ready.")
def serve(
    bundle: Path,
    bind: str,
    zmq_bind: str | None,
    insecure_bind: bool,
    engine: str,
    lowering: str,
    plans: Path | None,
    threads: int,
    real_time: RealTime,
    spin_us: int,
    lean: bool,
    lease_s: float,
    max_age_ms: float | None,
    max_frozen_frames: int,
    refuse_far_proprio: bool,
    noise_seed: int,
    view_scorer: Path | None,
    answerer: Path | None,
    answerer_threads: int,
    deadline_ms: float,
    deadline_profiles: tuple[str, ...],
    success_kept: float,
    limits: Path | None,
    over_limits: str,
    stop_signal: str,
    stop_fd: int | None,
    as_json: bool,
) -> None:
    """Run the daemon: load BUNDLE and answer one robot's observations with actions.

    It runs until SIGTERM, SIGHUP or Ctrl-C and finishes the step in progress; a second signal ends it at once.

    \b
    Example:
        saccade serve ./saccade-mini --max-age-ms 150
        saccade serve ./saccade-mini --answerer ./llava
        saccade serve ./saccade-mini --deadline-ms 40
        saccade serve ./saccade-mini --limits cell.json --stop-signal SIGUSR1
    """
    if deadline_profiles and not deadline_ms:
        raise click.UsageError("expected --deadline-ms with --deadline-profile, found none.")
    ask_for(real_time)
    config = DaemonConfig(
        bundle=bundle,
        bind=bind,
        zmq_bind=zmq_bind,
        is_insecure_bind_allowed=insecure_bind,
        engine=engine,
        lowering=lowering,
        plans=plans,
        threads=threads,
        prepack=not lean,
        lease_ns=round(lease_s * 1e9),
        max_age_ns=None if max_age_ms is None else round(max_age_ms * 1e6),
        max_frozen_frames=max_frozen_frames,
        refuses_far_proprio=refuse_far_proprio,
        noise_seed=noise_seed,
        view_scorer=view_scorer,
        answerer=answerer,
        answerer_threads=answerer_threads,
        deadline_ns=round(deadline_ms * 1e6),
        deadline_profiles=deadline_profiles,
        success_kept=success_kept,
        spin_ns=spin_us * 1_000,
        limits=None if limits is None else OperatorLimits.from_file(limits),
        refuses_over_limits=over_limits == "refuse",
        stop_signal=stop_signal,
        stop_fd=stop_fd,
    )

    def announce(daemon: Daemon) -> None:
        if as_json:
            click.echo(json.dumps({"ready": True, "grpc": daemon.address, "zmq": daemon.zmq_address}))
            return
        zmq_too = "" if daemon.zmq_address is None else f" and {daemon.zmq_address} (ZeroMQ)"
        answering = "" if answerer is None else f"; {answerer} answers questions over gRPC"
        click.echo(f"serving {bundle} on {daemon.address} (gRPC){zmq_too}{answering}")

    run(config, on_ready=announce)
