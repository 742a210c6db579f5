"""The ``saccade`` program: the group of its commands. A command is loaded only when it is called.

Another package adds a command by an entry point in the group ``saccade.commands`` that names a function decorated by
click; what ``saccade --help`` shows of it is the first sentence of its docstring.

Exit codes: 0 = done, 1 = refused or failed, with one message that says why, 2 = wrong usage.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from io import TextIOWrapper
from typing import Any, NoReturn, TextIO

import click
from click.shell_completion import CompletionItem

from saccade.proto.distribution import VERSION, install_hint
from saccade.proto.errors import SaccadeError
from saccade.proto.file_errors import file_error
from saccade.runtime.commands.summary import read_summary

_LOG = logging.getLogger(__name__)

COMMAND_GROUP = "saccade.commands"
BUILT_IN = {
    name.replace("_", "-"): EntryPoint(
        name.replace("_", "-"), f"saccade.runtime.commands.{name}:{name}", COMMAND_GROUP
    )
    for name in (
        "ask",
        "bench",
        "build",
        "completion",
        "doctor",
        "inspect",
        "parity",
        "score_views",
        "selftest",
        "serve",
    )
}
"""The commands of the robot's side, found like the installed ones, so that none is loaded before it is called."""
EXTRAS = {
    "export": ("export",),
    "export-answering": ("export",),
    "export-scorer": ("export",),
    "lower": ("export",),
    "sim": ("sim",),
    "train": ("export", "sim"),
    "tune": ("tune",),
    "verify": ("export",),
}
"""The extras that our installed commands come with; the built-in ones come with ``serve``."""


class SaccadeGroup(click.Group):
    """Knows the built-in and the installed commands by name, and prints our errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return built-in and installed commands."""
        del ctx
        return sorted(_commands())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its line, without loading them."""
        rows = [(name, _summary(point)) for name, point in sorted(_commands().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands and options, without loading the commands."""
        commands = [
            CompletionItem(name, help=_summary(point))
            for name, point in sorted(_commands().items())
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading it."""
        point = _commands().get(cmd_name)
        if point is None:
            return None
        try:
            command: click.Command = point.load()
        except ImportError as error:
            if ctx.resilient_parsing:  # while a shell completes, silence is better than a message
                return None
            _fail(f"`saccade {cmd_name}` is not installed here ({error}): {_remedy(point)}.")
        return command

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program on any terminal; what the operating system refuses is one message and exit code 1."""
        for stream in (sys.stdout, sys.stderr):
            _never_refuse(stream)
        try:
            return super().main(*args, **options)
        except OSError as error:
            refused = file_error(error)
            if not options.get("standalone_mode", True):
                raise refused from error
            _LOG.info("the operating system refused", exc_info=True)
            _abandon_output()
            with suppress(OSError):
                click.echo(f"Error: {refused.message} [{refused.code}]", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of ours becomes one message and exit code 1."""
        try:
            return super().invoke(ctx)
        except SaccadeError as error:
            _fail(f"{error.message} [{error.code}]")


def _never_refuse(stream: TextIO) -> None:
    """Have a terminal print ``?`` for a character that it lacks, instead of ending the program.

    That is any beyond ASCII or latin-1 where the locale says so, and on every terminal half of a surrogate pair, as
    file names that are no Unicode have. Tables draw themselves in ASCII where the encoding is none of Unicode.
    """
    if isinstance(stream, TextIOWrapper) and stream.errors != "backslashreplace":
        is_unicode = stream.encoding.lower().startswith("utf")
        if not is_unicode or stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}


def _commands() -> dict[str, EntryPoint]:
    return {**_installed(), **BUILT_IN}


def _summary(point: EntryPoint) -> str:
    return read_summary(point) or f"See `saccade {point.name} --help`."


def _remedy(point: EntryPoint) -> str:
    """Say what to install, so that a command can be loaded."""
    package = point.module.split(".")[0]
    if package != "saccade":
        owner = point.dist.name if point.dist else package
        return f"it comes with {owner}; install what that needs"
    return install_hint(*EXTRAS.get(point.name, ("serve",)))


def _abandon_output() -> None:
    """Where nothing more can be written to stdout, forget what waits there: Python would try again as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


@click.group(
    cls=SaccadeGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 = done; 1 = refused or failed, with one message that says why; 2 = wrong usage.",
)
@click.version_option(VERSION, prog_name="saccade")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to stderr.")
def main(verbose: bool) -> None:
    """Run vision-language-action models on the robot, looking only where it matters."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


if __name__ == "__main__":
    main(prog_name="saccade")
