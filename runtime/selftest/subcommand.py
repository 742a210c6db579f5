"""Runs one command of ``saccade`` in a process of its own, so that one that crashes takes nothing else with it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.proto.errors import SelfTestError

_REFUSAL = re.compile(r"^Error: (?P<message>.*) \[(?P<code>[a-z_.]+)\]\s*$", re.MULTILINE | re.DOTALL)
_PROGRAM = (sys.executable, "-m", "saccade.runtime.commands.main")
_LAST_LINES = 3
_STOP_S = 20.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Args:
        seconds: How long it took.
        result: The JSON that it wrote; None if it wrote none.
        code: Stable code of the error that ended it; empty if none did.
        message: What the error said.
    """

    seconds: float
    result: Any
    code: str = ""
    message: str = ""


def run_saccade(
    arguments: Sequence[str], *, written: Path | None = None, timeout_s: float | None = None
) -> Outcome:
    """Run ``saccade`` and wait for it.

    Args:
        arguments: What is typed behind ``saccade``.
        written: File that the command writes its JSON to; None = it prints it.
        timeout_s: Longest wait, seconds; None = as long as it takes.

    Returns:
        How it ended: refused and failed, crashed and too late are outcomes, not errors.
    """
    began = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
        [*_PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        try:
            said, complained = process.communicate(timeout=timeout_s)
            ended = _how(process.returncode)
        except subprocess.TimeoutExpired:
            said, complained = _end(process)
            ended = f"it went on after {timeout_s:g} s"
        except BaseException:
            _end(process)
            raise
    result = _parsed(said if written is None else _content(written))
    seconds = time.monotonic() - began
    if process.returncode == 0:
        return Outcome(seconds, result)
    refusal = _REFUSAL.search(complained)
    if refusal is not None:
        return Outcome(seconds, result, refusal["code"], " ".join(refusal["message"].split()))
    tail = " / ".join(complained.strip().splitlines()[-_LAST_LINES:]) or "nothing on stderr"
    return Outcome(seconds, result, SelfTestError.code, f"{ended}; {tail}")


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a process, with force if it does not listen, and return what it said."""
    process.terminate()
    try:
        return process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"it ended with exit code {returncode}"
    try:
        return f"it was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"it was ended by signal {-returncode}"


def _content(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
