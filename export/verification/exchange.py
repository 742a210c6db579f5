"""Runs a published class in an interpreter that has it: another process, maybe another environment.

Whatever the two sides say to each other are JSON and arrays in one folder; no code of a checkpoint is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.export.verification.published import Published
from saccade.proto.errors import ExportError

_PROGRAMS = Path(__file__).with_name("reference")
_NOT_INSTALLED = 3
_LAUNCH = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("saccade_reference", sys.argv[1])
sys.modules[spec.name] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from saccade_reference.run import main
sys.exit(main(pathlib.Path(sys.argv[2])))
"""
"""Loads the folder of programs as a package of its own name, wherever it lies."""


@dataclass(frozen=True)
class Told:
    """What a reference computed.

    Args:
        name: What it is: a class, or what it is composed of.
        versions: Versions of the libraries it is made of, by name.
        arrays: What each stage gave, as ``FRAME/STAGE``.
    """

    name: str
    versions: dict[str, str]
    arrays: Mapping[str, NDArray[Any]]


def ask_reference(
    published: Published,
    request: Mapping[str, Any],
    given: Mapping[str, NDArray[Any]],
    python: Path | None,
    place: Path,
) -> Told:
    """Run a published class and return what it computed.

    Args:
        published: The class.
        request: What its program asks for, as JSON.
        given: Observations, by name.
        python: Interpreter that has the libraries; None = the one that runs here.
        place: An empty folder for the exchange.

    Raises:
        ExportError: There is no such interpreter, it lacks a library, or the class failed.
    """
    whole = {**request, "program": published.program, "libraries": published.libraries}
    (place / "request.json").write_text(json.dumps(whole), encoding="utf-8")
    np.savez(place / "given.npz", **given)  # type: ignore[arg-type]
    interpreter = str(python or sys.executable)
    found = _run(interpreter, place)
    if found.returncode == _NOT_INSTALLED:
        raise _not_installed(published, _about(place), interpreter)
    if found.returncode:
        raise ExportError(
            f"expected the published class to run, found that it failed in {interpreter}: "
            f"{_last_words(found.stderr) or f'exit code {found.returncode}'}.{_offline(found.stderr)}"
        )
    about = _about(place)
    with np.load(place / "told.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return Told(about["name"], about["versions"], arrays)


def _run(interpreter: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run the programs; nobody is asked whether a checkpoint's code may run: it may not."""
    try:
        return subprocess.run(  # noqa: S603 - the user's interpreter, our program
            [interpreter, "-c", _LAUNCH, str(_PROGRAMS / "__init__.py"), str(place)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ExportError(
            f"--reference-python: expected an interpreter, found {interpreter}: {error.strerror or error}."
        ) from error


def _environment() -> dict[str, str]:
    """Return the environment of the reference: it looks nothing up that is not on this machine."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _offline(stderr: str) -> str:
    """Say how a class may fetch what it did not find on this machine."""
    lacks = "HF_HUB_OFFLINE" not in os.environ and any(
        word in stderr for word in ("huggingface.co", "offline")
    )
    return " Nothing is fetched unless you set HF_HUB_OFFLINE=0." if lacks else ""


def _about(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "about.json").read_text(encoding="utf-8"))
    return found


def _not_installed(published: Published, about: Mapping[str, Any], interpreter: str) -> ExportError:
    return ExportError(
        f"expected the published class in {interpreter}, found that it cannot be imported there "
        f"({about['not_installed']}): pip install {published.install}, or name an interpreter that has it with "
        "--reference-python PATH."
    )


def _last_words(stderr: str) -> str:
    """Return the last line that a failed program said: the exception."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
