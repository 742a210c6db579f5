"""What a shell is told when somebody presses Tab: asked as the shell asks, in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from saccade.runtime.commands.main import main

PROGRAM = "from saccade.runtime.console_script import main; main()"


def complete(words: str, *, without: str = "") -> list[str]:
    """Return what is offered for the last of ``words``."""
    hide = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    asked = {"_SACCADE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    found = subprocess.run(
        [sys.executable, "-c", hide + PROGRAM],
        env={**os.environ, **asked}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0 and found.stderr == "", found.stderr
    return found.stdout.splitlines()


def test_commands_are_completed_installed_ones_too_and_without_torch() -> None:
    offered = complete("saccade e", without="torch")
    assert {"plain,export", "plain,export-answering", "plain,export-scorer"} == set(offered)
    assert {"plain,ask", "plain,completion", "plain,serve", "plain,sim"} <= set(complete("saccade "))


def test_options_choices_and_paths_are_completed() -> None:
    assert complete("saccade --ver") == ["plain,--version", "plain,--verbose"]
    assert complete("saccade serve --max-a") == ["plain,--max-age-ms"]
    assert complete("saccade inspect --dtype nv") == ["plain,nvfp4"]
    assert complete("saccade serve b") == ["dir,b"]
    assert complete("saccade sim bundle --exec") == ["plain,--execute"]


def test_a_command_that_is_not_installed_completes_to_nothing() -> None:
    assert [line for line in complete("saccade export --fr", without="torch") if "--fr" in line] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_says_where_it_belongs(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_SACCADE_COMPLETE={shell}_complete" in result.stdout
    script, comment = result.stdout.split("# Where this belongs")
    assert "saccade" in script and f"saccade completion {shell}" in comment
    assert f"saccade completion {shell}" in CliRunner().invoke(main, ["completion", "--help"]).output


def test_another_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_really_completes(tmp_path: Path) -> None:
    """The printed script, evaluated by bash, with `saccade` on its path."""
    program = tmp_path / "saccade"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{PROGRAM}' \"$@\"\n")
    program.chmod(0o700)
    script = (
        'eval "$(saccade completion bash)"\n'
        "complete -p saccade\nCOMP_WORDS=(saccade insp); COMP_CWORD=1\n"
        "_saccade_completion saccade insp saccade\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    found = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    registered, reply = found.stdout.splitlines()
    assert "-F _saccade_completion saccade" in registered
    assert reply == "inspect"
