"""The line that ``saccade --help`` shows for a command, read off its source: loading it could mean loading torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint

import click

_LONGEST = 200


def read_summary(point: EntryPoint) -> str:
    """Return what a command says of itself in one line, without importing its module or the packages around it.

    Args:
        point: A function that click decorates: ``help`` or ``short_help`` of the decorator, or the docstring.

    Returns:
        The first sentence; empty where the source has none to read.
    """
    for node in _statements(point.module):
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            texts = {"help": ast.get_docstring(node), **_literals(node.decorator_list)}
            command = click.Command(point.name, help=texts["help"], short_help=texts.get("short_help"))
            return command.get_short_help_str(_LONGEST)
    return ""


def _literals(decorators: Sequence[ast.expr]) -> dict[str, str]:
    """Return the keywords of the decorator that makes the command, where they are literals."""
    return {
        keyword.arg: keyword.value.value
        for decorator in decorators
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(("command", "group"))
        for keyword in decorator.keywords
        if keyword.arg in {"help", "short_help"}
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
    }


def _statements(module: str) -> list[ast.stmt]:
    """Return what a module's source says. What leads to it is found, not imported: a package's own code may be slow."""
    try:
        spec = _find(module)
        source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
        return ast.parse(source or "").body
    except (ImportError, KeyError, SyntaxError):  # KeyError: a namespace inside one that nobody imported yet
        return []


def _find(module: str) -> ModuleSpec | None:
    spec: ModuleSpec | None = None
    places: Sequence[str] | None = None
    for end in range(module.count(".") + 1):
        name = ".".join(module.split(".")[: end + 1])
        found = (finder.find_spec(name, places) for finder in sys.meta_path)
        spec = next((candidate for candidate in found if candidate is not None), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return spec
