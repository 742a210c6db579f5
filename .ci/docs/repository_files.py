"""Carries files of the repository into the site where a page links to one, as in ``../benchmarks/results/memory.json``.

One relative link is then right in both places: where the repository is browsed, and on the site. There Markdown becomes
a page of its own and whatever else is copied; a link to a folder becomes its text. A link to what is not there stays as
it is, and is a warning of mkdocs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

PLACE = "repository"
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)#\s]+)((?:#[^)\s]*)?)\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what the pages link to, and what that links to."""
    docs = Path(config.docs_dir)
    waiting = [docs / file.src_uri for file in files.documentation_pages()]
    while waiting:
        for path in _linked(waiting.pop(), docs.parent):
            name = _site_uri(path, docs)
            if files.get_file_from_path(name) is None and path.is_file():
                carried = File.generated(
                    config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(carried)
                if carried.is_documentation_page():
                    waiting.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to the place of their file on the site."""
    del files
    docs, source = Path(config.docs_dir), page.file.src_uri
    path = docs / source
    if source.startswith(f"{PLACE}/"):
        path = docs.parent / source.removeprefix(f"{PLACE}/")

    def lead(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        found = _inside(path.parent / target, docs.parent)
        if found is None:
            return link[0]
        if found.is_dir():
            return text
        return f"[{text}]({posixpath.relpath(_site_uri(found, docs), posixpath.dirname(source))}{anchor})"

    return _LINK.sub(lead, markdown)


def _linked(page: Path, root: Path) -> Iterator[Path]:
    """Yield the files and folders of the repository that a page links to."""
    for _, target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
        found = _inside(page.parent / target, root)
        if found is not None:
            yield found


def _inside(path: Path, root: Path) -> Path | None:
    """Return a path without detours, None if nothing is there or it lies outside the repository."""
    whole = path.resolve()
    return whole if whole.exists() and whole.is_relative_to(root) else None


def _site_uri(path: Path, docs: Path) -> str:
    """Return the place of a file among the site's sources."""
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    return f"{PLACE}/{path.relative_to(docs.parent).as_posix()}"
