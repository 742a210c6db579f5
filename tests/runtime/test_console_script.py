import subprocess
import sys

import pytest

from saccade.proto.distribution import VERSION


def run(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    script = f"import sys; {prelude}\nfrom saccade.runtime.console_script import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments], capture_output=True, text=True, check=False
    )


def test_it_is_the_program() -> None:
    found = run("--version")
    assert (found.returncode, found.stdout) == (0, f"saccade, version {VERSION}\n")
    assert run("serve").stderr.startswith("Usage: saccade serve [OPTIONS] BUNDLE\n")


@pytest.mark.parametrize("arguments", [[], ["--version"], ["serve", "bundle"]])
def test_without_the_command_lines_packages_one_sentence_says_what_to_install(arguments: list[str]) -> None:
    found = run(*arguments, prelude="sys.modules['click'] = None")
    assert (found.returncode, found.stdout) == (1, "")
    (line,) = found.stderr.splitlines()
    assert line.startswith("Error: expected the packages of the command line, found no click: ")
    assert "pip install 'saccade-vla[serve]'" in line


def test_a_defect_of_our_own_is_not_mistaken_for_a_missing_package() -> None:
    found = run(prelude="sys.modules['saccade.runtime.commands.summary'] = None")
    assert "ModuleNotFoundError" in found.stderr and "pip install" not in found.stderr
