import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saccade.runtime.commands import main as cli


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["serve", "inspect", "doctor"])
def test_help_has_an_example(command: str) -> None:
    result = saccade(command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n      saccade {command} ./saccade-mini" in result.output


def test_help_lists_the_installed_commands_without_loading_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unloadable:
        def load(self) -> None:
            raise AssertionError("loaded")

    monkeypatch.setattr(cli, "_installed", lambda: {"export": Unloadable()})
    result = saccade("--help")
    assert result.exit_code == 0
    assert "export" in result.output
    assert "serve" in result.output


def test_a_command_whose_packages_are_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        module = "saccade.export.commands.export"

        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(cli, "_installed", lambda: {"export": Missing()})
    result = saccade("export", "model")
    assert result.exit_code == 1
    assert "is not installed here (No module named 'torch'): pip install 'saccade[export]'" in result.output


def test_a_bundle_that_is_none_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    result = saccade("serve", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: expected a bundle with manifest.json, found none at")
    assert "[bundle.integrity]" in result.output
    assert "Traceback" not in result.output


def test_wrong_usage_is_exit_code_2() -> None:
    assert saccade("serve").exit_code == 2
    assert saccade("dance").exit_code == 2


def test_serve_refuses_the_network_unless_asked(tiny: Path) -> None:
    result = saccade("serve", tiny, "--bind", "0.0.0.0:0")
    assert result.exit_code == 1
    assert "--insecure-bind" in result.output


def test_doctor_finds_a_healthy_machine(tiny: Path) -> None:
    result = saccade("doctor", tiny, "--bind", "127.0.0.1:0", "--json")
    assert result.exit_code == 0, result.output
    findings = {finding["subject"]: finding for finding in json.loads(result.output)}
    assert "every profile runs: full" in findings["bundle"]["detail"]


def test_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = saccade("doctor", tmp_path, "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
    assert result.exit_code == 1
    assert "FAIL address: expected to bind" in result.output
    assert "FAIL bundle: expected a bundle with manifest.json" in result.output
