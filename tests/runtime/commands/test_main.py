import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saccade.proto.distribution import DISTRIBUTION, VERSION
from saccade.runtime.commands import main as cli

GREETING = '''
import click

print("loaded")

@click.command()
@click.argument("name")
def greet(name):
    """Greet NAME. What follows is for `--help` alone."""
    click.echo(f"hello {name}")
'''


def saccade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another package that brings a command, as pip would leave it."""
    package = tmp_path / "outside_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    (package / "greeting.py").write_text(GREETING)
    installed = tmp_path / "outside_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[saccade.commands]\ngreet = outside_package.greeting:greet\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in ("outside_package", "outside_package.greeting"):
        sys.modules.pop(name, None)


def test_the_version_needs_no_installed_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    result = saccade("--version")
    assert (result.exit_code, result.output) == (0, f"saccade, version {VERSION}\n")


def test_help_shows_a_line_of_every_command_and_loads_none() -> None:
    """In a process of its own: torch, the engine and the commands' modules stay out of it."""
    script = (
        "import sys\nfrom saccade.runtime.commands.main import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    heavy = {'torch', 'onnxruntime', 'numpy', 'grpc', 'rich'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stderr.splitlines()[-1] == "[]"
    shown = " ".join(found.stdout.split())
    for line in (
        "ask Ask BUNDLE, or the daemon",
        "doctor Check that this machine can serve",
        "export Export CHECKPOINT, a model that moves a robot",
        "serve Run the daemon",
        "sim Let a bundle drive the arm",
        "train Train a model in the simulated tabletop",
        "tune Search a policy's options",
        "Exit codes: 0 = done",
    ):
        assert line in shown
    assert "See `" not in shown


def test_a_command_of_another_package_is_listed_unloaded_and_runs(outside: Path) -> None:
    listed = saccade("--help")
    assert listed.exit_code == 0
    assert "greet" in listed.output and "Greet NAME." in listed.output
    assert "loaded" not in listed.output
    (outside / "__init__.py").write_text("")
    ran = saccade("greet", "you")
    assert (ran.exit_code, ran.output) == (0, "loaded\nhello you\n")


def test_a_command_of_another_package_that_lacks_something_names_the_package(outside: Path) -> None:
    (outside / "__init__.py").write_text("import no_such_module\n")
    result = saccade("greet", "you")
    assert result.exit_code == 1
    assert (
        "is not installed here (No module named 'no_such_module'): it comes with outside-package"
        in result.output
    )


def test_a_command_of_ours_whose_packages_are_missing_says_what_to_install() -> None:
    script = "import sys; sys.modules['torch'] = None\nfrom saccade.runtime.commands.main import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", script, "export", "model"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "`saccade export` is not installed here (" in found.stderr
    assert found.stderr.endswith("): pip install 'saccade-vla[export]'.\n") and found.stderr.count("\n") == 1


def test_every_command_of_ours_knows_its_extras() -> None:
    installed = importlib.metadata.distribution(DISTRIBUTION)
    assert set(cli.EXTRAS) == {
        point.name for point in installed.entry_points if point.group == cli.COMMAND_GROUP
    }
    named = {extra for extras in cli.EXTRAS.values() for extra in extras}
    assert named <= set(installed.metadata.get_all("Provides-Extra") or [])


def test_the_built_in_commands_can_be_loaded() -> None:
    assert {point.load().name for point in cli.BUILT_IN.values()} == set(cli.BUILT_IN)


def test_an_error_of_ours_is_one_message_with_its_code(tmp_path: Path) -> None:
    result = saccade("serve", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: expected a bundle with manifest.json, found none at")
    assert result.output.endswith("[bundle.integrity]\n")
    assert "Traceback" not in result.output


def test_an_error_of_the_operating_system_is_one_message(outside: Path) -> None:
    (outside / "__init__.py").write_text("")
    (outside / "greeting.py").write_text(GREETING.replace("click.echo(", "open(name, 'w').write("))
    result = saccade("greet", outside)
    assert result.exit_code == 1
    (message,) = [line for line in result.output.splitlines() if line != "loaded"]
    assert message.startswith("Error: [Errno")


def test_a_reader_that_leaves_is_no_error(tiny: Path) -> None:
    """As in ``saccade inspect BUNDLE | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    script = "from saccade.runtime.commands.main import main; main()"
    with os.fdopen(writing, "w") as pipe:
        found = subprocess.run(
            [sys.executable, "-c", script, "inspect", str(tiny)],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert "Error" not in found.stderr and "Traceback" not in found.stderr


def test_wrong_usage_is_exit_code_2() -> None:
    assert saccade("serve").exit_code == 2
    assert saccade("dance").exit_code == 2


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_characters_gets_tables(charset: str, tiny: Path) -> None:
    manifest = json.loads((tiny / "manifest.json").read_text())
    (tiny / "manifest.json").write_text(json.dumps({**manifest, "name": "π → \ud800"}))
    terminal = CliRunner(charset=charset)
    result = terminal.invoke(cli.main, ["inspect", str(tiny)])
    assert result.exit_code == 0, result.output
    assert "? ? ? - bundle" in result.output
    assert "| policy     | before " in result.output
    assert terminal.invoke(cli.main, ["serve", "--help"]).exit_code == 0, "it names π0"
