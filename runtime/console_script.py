"""What the ``saccade`` program calls first. The base install has it too, and the command line's packages it has not."""

from __future__ import annotations

import sys
from importlib import import_module

from saccade.proto.distribution import install_hint


def main() -> None:
    """Run the ``saccade`` program; on a base install, say in one sentence what to install, and exit with 1."""
    try:
        program = import_module("saccade.runtime.commands.main").main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "saccade":
            raise
        sys.exit(
            f"Error: expected the packages of the command line, found no {error.name}: {install_hint('serve')}; "
            "without them this install is the thin client, `from saccade.runtime.client import Client`."
        )
    program(prog_name="saccade")
