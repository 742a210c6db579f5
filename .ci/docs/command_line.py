"""Writes every command of ``saccade`` into the page of command lines, from click's own description of it.

What is listed is what `saccade` itself finds, commands of installed entry points included, so that the site is built
where everything is installed: in the environment of the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from textwrap import dedent

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from saccade.runtime.commands.main import main

PAGE, MARK = "command_line.md", "<!-- every command -->"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the commands in the place of the mark."""
    del config, files
    if page.file.src_uri != PAGE:
        return markdown
    if markdown.count(MARK) != 1:
        raise PluginError(f"{PAGE}: expected {MARK} once, found it {markdown.count(MARK)} times.")
    try:
        return markdown.replace(MARK, "\n".join(_describe("saccade", main, None)))
    except click.ClickException as error:
        raise PluginError(f"{PAGE}: {error.format_message()}") from error


def _describe(name: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    """Yield the lines of a command and of those below it."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield f"## {context.command_path} {{ #{context.command_path.replace(' ', '-')} }}"
    yield ""
    usage = " ".join(command.collect_usage_pieces(context))
    yield from _fenced(f"{context.command_path} {usage}")
    for text in (command.help, command.epilog):
        yield from _prose(cleandoc(text or ""))
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _describe(below, found, context)


def _prose(text: str) -> Iterator[str]:
    r"""Yield paragraphs; one behind ``\b``, which click does not fill, is a heading line and what is typed."""
    for paragraph in re.split(r"\n{2,}", text.replace("\b\n", "\n\n\b")):
        if paragraph.startswith("\b"):
            title, _, typed = paragraph.removeprefix("\b").partition("\n")
            yield from (title, "")
            yield from _fenced(dedent(typed))
        else:
            yield from (_escaped(paragraph), "")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    yield from ("| option | meaning |", "|---|---|")
    for names, meaning in records:
        yield f"| `{names}` | {_escaped(meaning)} |"
    yield ""


def _fenced(text: str) -> Iterator[str]:
    yield from ("```bash", text.strip("\n"), "```", "")


def _escaped(text: str) -> str:
    """Keep ``<image>``, ``[default: 0]`` and bars from being read as markup."""
    return text.replace("<", "&lt;").replace("[", "\\[").replace("|", "&#124;")
