import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from saccade.runtime.commands.summary import read_summary

SOURCE = '''
import click
import never_to_be_imported

@click.command()
def plain():
    """First sentence. And a second one.

    More of it.
    """

@click.group(help="Given as help. Not the docstring.")
def grouped():
    """The docstring."""

@plain.command("named", short_help="Given as short help")
@click.option("--depth", help="Help of an option, which is not the command's.")
def short(depth):
    """The docstring."""

@click.command()
@click.option("--depth", help="Help of an option, which is not the command's.")
def silent(depth): ...

made = click.Command("made")
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package in a namespace, which nothing may import."""
    folder = tmp_path / "unimported_namespace" / "inner"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')\n")
    (folder / "commands.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return "unimported_namespace.inner.commands"


@pytest.mark.parametrize(
    ("attribute", "line"),
    [
        ("plain", "First sentence."),
        ("grouped", "Given as help."),
        ("short", "Given as short help"),
        ("silent", ""),
        ("made", ""),
        ("absent", ""),
    ],
)
def test_the_line_is_read_and_nothing_is_imported(package: str, attribute: str, line: str) -> None:
    before = set(sys.modules)
    assert read_summary(EntryPoint("x", f"{package}:{attribute}", "saccade.commands")) == line
    assert {name for name in set(sys.modules) - before if name.startswith("unimported")} == set()


@pytest.mark.parametrize("module", ["no_such_package.commands", "sys", "unimported_namespace.none.commands"])
def test_a_module_without_source_has_no_line(package: str, module: str) -> None:
    del package
    assert read_summary(EntryPoint("x", f"{module}:command", "saccade.commands")) == ""


def test_a_source_that_does_not_parse_has_no_line(package: str, tmp_path: Path) -> None:
    (tmp_path / "unimported_namespace/inner/commands.py").write_text("def plain(:\n")
    assert read_summary(EntryPoint("x", f"{package}:plain", "saccade.commands")) == ""
