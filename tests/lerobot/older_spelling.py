"""Lets Python 3.11 import lerobot 0.6.1, which spells type parameters as Python 3.12 does.

Annotations only: nothing is computed differently. Run by the interpreter of the environment that lerobot is in; a
second run finds nothing to do.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

VERSION = "0.6.1"
SPELLINGS = {
    "lerobot/processor/pipeline.py": {
        "from typing import Any, TypedDict, TypeVar, cast": (
            "from typing import Any, Generic, TypedDict, TypeVar, cast"
        ),
        "class DataProcessorPipeline[TInput, TOutput](HubMixin):": (
            "class DataProcessorPipeline(HubMixin, Generic[TInput, TOutput]):"
        ),
    },
    "lerobot/utils/io_utils.py": {
        "def deserialize_json_into_object[T: JsonLike](fpath: Path, obj: T) -> T:": (
            "def deserialize_json_into_object(fpath: Path, obj: JsonLike) -> JsonLike:"
        ),
    },
    "lerobot/motors/motors_bus.py": {
        "type NameOrID = str | int": "NameOrID = str | int",
        "type Value = int | float": "Value = int | float",
    },
}
"""File to lines: Python 3.12's spelling, and the older one."""


def main() -> None:
    """Rewrite the lines in place."""
    lerobot = distribution("lerobot")
    if lerobot.version != VERSION:
        sys.exit(f"expected lerobot {VERSION}, found {lerobot.version}: write down its spellings first.")
    for name, lines in SPELLINGS.items():
        path = Path(str(lerobot.locate_file(name)))
        text = path.read_text(encoding="utf-8").split("\n")
        for newer, older in lines.items():
            if newer not in text and older not in text:
                sys.exit(
                    f"{name}: expected the line {newer!r}, found none: is this an unchanged lerobot {VERSION}?"
                )
        path.write_text("\n".join(lines.get(line, line) for line in text), encoding="utf-8")


if __name__ == "__main__":
    main()
