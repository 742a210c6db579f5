"""The ``saccade`` program. Commands that live outside the robot side are loaded only when they are called.

Exit codes: 0 = done, 1 = refused or failed, with one message that says why, 2 = wrong usage.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import EntryPoint, entry_points
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import click

from saccade.proto.errors import SaccadeError
from saccade.proto.strict_json import to_json
from saccade.runtime.commands.ask import ask
from saccade.runtime.commands.inspect import inspect
from saccade.runtime.daemon import Daemon, DaemonConfig, run
from saccade.runtime.doctor import examine
from saccade.runtime.servers.endpoint import DEFAULT_FROZEN_FRAMES

COMMAND_GROUP = "saccade.commands"
_BUNDLE = click.Path(path_type=Path, exists=False, file_okay=False)


class SaccadeGroup(click.Group):
    """Finds further commands among the installed entry points, and prints our errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return built-in and installed commands."""
        return sorted({*super().list_commands(ctx), *_installed()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading the installed ones."""
        built_in = {
            name: super(SaccadeGroup, self).get_command(ctx, name) for name in self.list_commands(ctx)
        }
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (
                        name,
                        command.get_short_help_str() if command else f"See `{ctx.info_name} {name} --help`.",
                    )
                    for name, command in built_in.items()
                ]
            )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading it if it is an installed one."""
        found = super().get_command(ctx, cmd_name)
        point = _installed().get(cmd_name)
        if found is not None or point is None:
            return found
        try:
            command: click.Command = point.load()
            return command
        except ImportError as error:
            extra = point.module.split(".")[1]  # saccade.export.commands.export comes with the extra "export"
            _fail(f"`saccade {cmd_name}` is not installed here ({error}): pip install 'saccade[{extra}]'.")

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a :class:`SaccadeError` becomes one message and exit code 1."""
        try:
            return super().invoke(ctx)
        except SaccadeError as error:
            _fail(f"{error.message} [{error.code}]")


class _Duration(click.FloatRange):
    """A finite number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what is no duration."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"expected a finite number, found {value}", param, ctx)
        return number


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


@click.group(cls=SaccadeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="saccade")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to stderr.")
def main(verbose: bool) -> None:
    """Run vision-language-action models on the robot, looking only where it matters."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


@main.command()
@click.argument("bundle", type=_BUNDLE)
@click.option(
    "--bind", default="127.0.0.1:7447", show_default=True, help="host:port of gRPC; port 0 picks one."
)
@click.option("--zmq-bind", help="host:port of ZeroMQ; not served without it.")
@click.option(
    "--insecure-bind", is_flag=True, help="Allow binds beyond loopback. Nothing authenticates clients."
)
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads of the engine; 0 = one for each core.",
)
@click.option("--lean", is_flag=True, help="All profiles read one memory-mapped copy of the weights; slower.")
@click.option(
    "--lease-s",
    type=_Duration(0),
    default=10.0,
    show_default=True,
    help="A silent owner can be replaced after this long.",
)
@click.option(
    "--max-age-ms",
    type=_Duration(0),
    help="Refuse observations captured longer ago, and chunks later than that; 0 = never. "
    "[default: as long as one chunk lasts]",
)
@click.option(
    "--max-frozen-frames",
    type=click.IntRange(0),
    default=DEFAULT_FROZEN_FRAMES,
    show_default=True,
    help="Refuse a camera that repeats the same pixels this often in a row; 0 = never.",
)
@click.option(
    "--noise-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the noise that actions are drawn out of, where they are: the same seed moves the arm the same way.",
)
@click.option(
    "--view-scorer",
    type=_BUNDLE,
    help="A bundle that scores the views once per task, for a policy that reads such scores.",
)
@click.option(
    "--answerer",
    type=_BUNDLE,
    help="A bundle that answers questions about pictures beside the control steps; see `saccade ask --daemon`.",
)
@click.option(
    "--answerer-threads",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Threads of the answerer's engine; 0 = one for each core.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when ready.")
def serve(
    bundle: Path,
    bind: str,
    zmq_bind: str | None,
    insecure_bind: bool,
    threads: int,
    lean: bool,
    lease_s: float,
    max_age_ms: float | None,
    max_frozen_frames: int,
    noise_seed: int,
    view_scorer: Path | None,
    answerer: Path | None,
    answerer_threads: int,
    as_json: bool,
) -> None:
    """Serve BUNDLE to one robot until SIGTERM or Ctrl-C; a second signal ends it at once.

    \b
    Example:
        saccade serve ./saccade-mini --max-age-ms 150
        saccade serve ./saccade-mini --answerer ./llava
    """
    config = DaemonConfig(
        bundle=bundle,
        bind=bind,
        zmq_bind=zmq_bind,
        is_insecure_bind_allowed=insecure_bind,
        threads=threads,
        prepack=not lean,
        lease_ns=round(lease_s * 1e9),
        max_age_ns=None if max_age_ms is None else round(max_age_ms * 1e6),
        max_frozen_frames=max_frozen_frames,
        noise_seed=noise_seed,
        view_scorer=view_scorer,
        answerer=answerer,
        answerer_threads=answerer_threads,
    )

    def announce(daemon: Daemon) -> None:
        if as_json:
            click.echo(json.dumps({"ready": True, "grpc": daemon.address, "zmq": daemon.zmq_address}))
            return
        zmq_too = "" if daemon.zmq_address is None else f" and {daemon.zmq_address} (ZeroMQ)"
        answering = "" if answerer is None else f"; {answerer} answers questions over gRPC"
        click.echo(f"serving {bundle} on {daemon.address} (gRPC){zmq_too}{answering}")

    run(config, on_ready=announce)


@main.command()
@click.argument("bundle", type=_BUNDLE, required=False)
@click.option("--bind", default="127.0.0.1:7447", show_default=True, help="Address the daemon would use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(bundle: Path | None, bind: str, as_json: bool) -> None:
    """Check that this machine can serve, and that it can serve BUNDLE. Exit code 1 if something is wrong.

    \b
    Example:
        saccade doctor ./saccade-mini
    """
    findings = examine(bundle, bind)
    if as_json:
        click.echo(json.dumps(to_json(findings)))
    else:
        for finding in findings:
            click.secho(
                "ok   " if finding.is_ok else "FAIL ", fg="green" if finding.is_ok else "red", nl=False
            )
            click.echo(f"{finding.subject}: {finding.detail}")
    if not all(finding.is_ok for finding in findings):
        raise click.exceptions.Exit(1)


main.add_command(ask)
main.add_command(inspect)


if __name__ == "__main__":
    main()
