"""Runs one published class on given observations and writes down what it computed.

A folder is the whole exchange: ``request.json`` and ``given.npz`` in, ``told.npz`` and ``about.json`` out.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

NOT_INSTALLED = 3
"""Exit code where a library is missing, too old or too new; ``about.json`` says which."""


def main(folder: Path) -> int:
    """Run what ``request.json`` asks for and return the exit code.

    Args:
        folder: Where request and observations lie, and where the results go.
    """
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    with np.load(folder / "given.npz", allow_pickle=False) as stored:
        given = {name: stored[name] for name in stored.files}
    try:
        import torch  # noqa: PLC0415 - whether it is there is told

        from .stages import Stages  # noqa: PLC0415 - so is this

        stages = Stages()
        program: Any = importlib.import_module(f".{request['program']}", __package__)
        with torch.inference_mode():
            name = program.run(request, given, stages)
    except ImportError as error:
        _write(folder, {"not_installed": f"{error}", "python": sys.executable})
        return NOT_INSTALLED
    np.savez(folder / "told.npz", **stages.arrays)  # type: ignore[arg-type]
    _write(folder, {"name": name, "versions": _versions(request["libraries"])})
    return 0


def _write(folder: Path, about: dict[str, Any]) -> None:
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _versions(libraries: list[str]) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: _version(name) for name in libraries}}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"
