"""A command in a process of its own: how it ended, whatever it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saccade.runtime.selftest import subcommand
from saccade.runtime.selftest.subcommand import run_saccade


def test_a_refusal_is_its_code_and_message(tmp_path: Path) -> None:
    found = run_saccade(
        ["bench", str(tmp_path), "--json", str(tmp_path / "b.json")], written=tmp_path / "b.json"
    )
    assert found.code.startswith("bundle") and found.message.startswith("expected") and found.result is None


@pytest.mark.parametrize(
    ("script", "code", "message", "result"),
    [
        ("print('{\"a\": 1}')", "", "", {"a": 1}),
        ("print('no JSON')", "", "", None),
        ("print([1]); sys.exit('Error: expected a,\\nfound. [engine.plan]')", "engine.plan", "expected a, found.", [1]),
        ("sys.exit('Traceback: x')", "selftest", "it ended with exit code 1; Traceback: x", None),
        ("os.kill(os.getpid(), 11)", "selftest", "it was ended by SIGSEGV; nothing on stderr", None),
        ("time.sleep(600)", "selftest", "it went on after 1 s; nothing on stderr", None),
    ],
)  # fmt: skip
def test_however_it_ends_it_is_told(
    monkeypatch: pytest.MonkeyPatch, script: str, code: str, message: str, result: Any
) -> None:
    monkeypatch.setattr(subcommand, "_PROGRAM", (sys.executable, "-c", f"import os, sys, time\n{script}"))
    found = run_saccade([], timeout_s=1.0 if "sleep" in script else None)
    assert (found.code, found.message, found.result) == (code, message, result)
    assert found.seconds > 0


def test_an_interruption_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def communicate(self, *args: Any, **options: Any) -> Any:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().communicate(*args, **options)

    monkeypatch.setattr(subcommand, "_PROGRAM", (sys.executable, "-c", "import time; time.sleep(600)"))
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_saccade([])
    assert started[0].poll() is not None
