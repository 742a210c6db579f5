"""Where a tokenizer lies, and what to do where there is none that can be read.

transformers writes ``tokenizer.json`` beside the weights, lerobot from 0.6.2 into a folder ``tokenizer``; before, it
wrote none and named another model whose tokenizer it is.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

NAME, FOLDER = "tokenizer.json", "tokenizer"
_SLOW = (("tokenizer.model",), ("spiece.model",), ("vocab.json", "merges.txt"))
"""Files of tokenizers that transformers reads in Python, or turns into a ``tokenizer.json``."""
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def find(place: Path) -> Path | None:
    """Return the tokenizer at a place, or None.

    Args:
        place: A file, or a folder that has ``tokenizer.json`` or a folder ``tokenizer`` with it.
    """
    slow = {name for names in _SLOW for name in names}
    candidates = (place, place / NAME, place / FOLDER / NAME)
    return next((file for file in candidates if file.is_file() and file.name not in slow), None)


def missing(place: Path, source: str = "", said: str = "") -> str:
    """Return a message for a place that has no ``tokenizer.json``: what is there, and what to do.

    Args:
        place: A file or folder where :func:`find` found none.
        source: Model on the Hub, or path, whose tokenizer it should be; empty = not known.
        said: What says so, e.g. the name of a file.
    """
    folder = place.parent if place.is_file() else place
    for where in (folder, folder / FOLDER):
        for names in _SLOW:
            if all((where / name).is_file() for name in names):
                return (
                    f"expected {NAME} in {where.name}/, found a slow tokenizer only ({', '.join(names)}); convert it, "
                    f"where transformers and sentencepiece are installed: {_conversion(where, folder / FOLDER)}"
                )
    expected = f"expected {NAME} in {folder.name}/ or {folder.name}/{FOLDER}/, found none; "
    if not source:
        return f"{expected}write it with the fast tokenizer's save_pretrained, or say where it is: --tokenizer PATH."
    copy = f"copy {NAME} of {source} ({said})"
    if _HUB.fullmatch(source):
        copy += f": hf download {source} {NAME} --local-dir {shlex.quote(str(folder))}"
    return f"{expected}{copy}; or say where it is: --tokenizer PATH."


def _conversion(slow: Path, out: Path) -> str:
    """Return the command that turns a slow tokenizer into a ``tokenizer.json``."""
    code = (
        f"from transformers import AutoTokenizer; AutoTokenizer.from_pretrained({json.dumps(str(slow))}, "
        f"use_fast=True).save_pretrained({json.dumps(str(out))})"
    )
    return f"python -c {shlex.quote(code)}"
