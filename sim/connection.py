"""A robot to evaluate: through the daemon and the real client, or in process to compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saccade.proto.errors import SimulatorError, UnknownProfileError
from saccade.proto.lowering_spec import CANONICAL
from saccade.proto.manifest import Manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.engines.registry import DEFAULT_ENGINE, open_backend
from saccade.runtime.observation import Robot
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.scorer_bundle import open_view_scorer
from saccade.runtime.session import Session
from saccade.sim.daemon_process import DaemonProcess
from saccade.sim.tabletop.arm import ACTION_NAMES, PROPRIO_NAMES
from saccade.sim.tabletop.cameras import VIEWS
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tables import TABLES, table_named

TransportChoice = Literal["grpc", "zmq", "in-process"]


@dataclass(frozen=True)
class Connection:
    """A robot that is ready to be driven.

    Args:
        robot: What resets and acts: the client's session, or the one in process.
        manifest: Manifest of the bundle behind it.
        engine: Name of what executes its graphs.
        transport: How it is reached.
        table: The table that it was trained on.
        lowering: Name of the form of its graphs that runs.
    """

    robot: Robot
    manifest: Manifest
    engine: str
    transport: TransportChoice
    table: Table
    lowering: str = CANONICAL


@contextmanager
def connect(  # noqa: PLR0913 - all but one are options
    bundle: Path,
    *,
    transport: TransportChoice = "grpc",
    engine: str = DEFAULT_ENGINE,
    lowering: str = CANONICAL,
    threads: int = 0,
    view_scorer: Path | None = None,
    table: str | None = None,
    limits_itself: bool = False,
) -> Iterator[Connection]:
    """Start what is needed to drive a bundle, and stop it afterwards.

    Args:
        bundle: Directory of the bundle.
        transport: How the robot is reached; ``grpc`` and ``zmq`` start a daemon of its own on a free loopback port.
        engine: Name of what executes its graphs.
        lowering: Name of the form of its graphs that runs.
        threads: Threads of the engine; 0 = one for each core.
        view_scorer: Directory of a bundle to serve beside it that scores views.
        table: Name of the table to play on; None = the one that the bundle was trained on.
        limits_itself: Whether commands are limited here, at the arm's own rate; else the daemon limits each chunk from
            the one before.

    Raises:
        SimulatorError: The bundle is for another robot than the tabletop's, or for another table.
        SaccadeError: The daemon or the session cannot start.
    """
    if transport == "in-process":
        with ExitStack() as stack:
            backend = stack.enter_context(open_backend(engine, threads=threads))
            program = ProgramExecutor(Bundle.open(bundle), backend, lowering=lowering)
            program.warm_up()
            check_robot(program.manifest)
            played_on = table_of(program.manifest, table)
            scorer = None
            if view_scorer is not None:
                scorer = stack.enter_context(open_view_scorer(view_scorer, backend, program.manifest))
            with Session(program, scorer=scorer) as session:
                yield Connection(
                    session, program.manifest, program.engine_name, transport, played_on, lowering
                )
        return
    with DaemonProcess(
        bundle,
        engine=engine,
        lowering=lowering,
        threads=threads,
        is_zmq=transport == "zmq",
        view_scorer=view_scorer,
    ) as daemon:
        address = daemon.address if daemon.zmq_address is None else daemon.zmq_address
        with Client(address, transport=transport, name="saccade sim") as client:
            description = client.describe()
            check_robot(description.manifest)
            played_on = table_of(description.manifest, table)
            with client.open(limits_itself=limits_itself) as robot:
                yield Connection(
                    robot, description.manifest, description.engine, transport, played_on, lowering
                )


def check_robot(manifest: Manifest) -> None:
    """Refuse a bundle that the tabletop cannot feed or obey.

    Args:
        manifest: Manifest of the bundle.

    Raises:
        SimulatorError: The bundle has other cameras, proprioception or actions.
    """
    sizes = {(view.height, view.width) for view in manifest.views}
    names = tuple(view.name for view in manifest.views)
    if set(names) != set(VIEWS) or len(sizes) != 1 or manifest.views[0].height != manifest.views[0].width:
        found = ", ".join(f"{view.name} {view.height}x{view.width}" for view in manifest.views)
        raise SimulatorError(
            f"expected a bundle with the square views {', '.join(VIEWS)} of one size, found {found}: "
            f"{manifest.name} was made for other cameras."
        )
    for part, names, expected in (
        ("proprioception", manifest.proprio.names, PROPRIO_NAMES),
        ("actions", manifest.action.names, ACTION_NAMES),
    ):
        if len(names) != len(expected):
            raise SimulatorError(
                f"expected a bundle with the {part} {', '.join(expected)}, found {', '.join(names)}: "
                f"{manifest.name} was made for another robot."
            )


def table_of(manifest: Manifest, asked: str | None = None) -> Table:
    """Return the table that a bundle plays on: its statistics say which one it was trained on.

    Args:
        manifest: Manifest of the bundle.
        asked: Name of the table that was asked for; needed only for a bundle that was trained on none of them.

    Raises:
        SimulatorError: There is no such table, or the bundle was trained on none that is known and none was asked for.
    """
    views = ", ".join(f"{view.name} {view.height}x{view.width}" for view in manifest.views)
    trained_on = next((t for t in TABLES.values() if t.data_set == manifest.statistics_key), None)
    wanted = trained_on if asked is None else table_named(asked)
    if wanted is None:
        known = ", ".join(f"{t.name} ({t.data_set}, {t.image_px} px)" for t in TABLES.values())
        raise SimulatorError(
            f"expected a bundle that was trained on one of the tables {known}, found {manifest.name} with the "
            f"statistics {manifest.statistics_key} and the views {views}: name the "
            "table with --table, or train on one of them."
        )
    return wanted


def image_px(manifest: Manifest) -> int:
    """Return the side of the square images that the bundle wants, in pixels.

    Args:
        manifest: Manifest of the bundle.
    """
    return manifest.views[0].height


def profiles_for(manifest: Manifest, keep_ratios: tuple[float, ...]) -> tuple[str, ...]:
    """Return the names of the profiles that keep these shares of the visual tokens.

    Raises:
        UnknownProfileError: The bundle has no profile of such a ratio.
    """
    by_ratio = {profile.keep_ratio: profile.name for profile in manifest.profiles}
    for ratio in keep_ratios:
        if ratio not in by_ratio:
            there = ", ".join(f"{known:g} ({name})" for known, name in by_ratio.items())
            raise UnknownProfileError(
                f"expected a keep ratio that the bundle has: {there}; found {ratio:g}: "
                f"export it with `saccade export --keep`."
            )
    return tuple(by_ratio[ratio] for ratio in keep_ratios)
