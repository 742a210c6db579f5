"""Turns ``:class:`...``` of our docstrings into a link where the name is documented, and into plain code where not."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?([\w.]+)</code>")


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace every role; mkdocs-autorefs finds the places."""
    del page, config, files
    return _ROLE.sub(r'<autoref optional identifier="\1"><code>\1</code></autoref>', html)
