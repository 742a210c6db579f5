"""Records of blocks on disk, one file each, written whole or not at all: what lets a sweep go on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saccade.proto.errors import SweepError
from saccade.proto.file_errors import naming
from saccade.sim.sweeps.block import Block


class BlockFiles:
    """A folder of records, ``<name of the block>.json``.

    Args:
        folder: Folder, made if there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, block: Block, identity: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the record of a block, or None if it has not been run.

        Args:
            block: Block that is asked for.
            identity: What every part of this sweep has in common with that block's bundle.

        Raises:
            SweepError: The file was made by another version, of another bundle or with other settings, or is damaged.
        """
        path = self._path(block)
        if not path.is_file():
            return None
        with naming(path):
            text = path.read_text(encoding="utf-8")
        try:
            record: dict[str, Any] = json.loads(text)
            found, settings = record["identity"], record["settings"]
        except (ValueError, TypeError, KeyError) as error:
            raise SweepError(
                f"expected the record of a block in {path}, found {type(error).__name__}: remove it."
            ) from error
        check_equal(found, identity, f"in {path}", self._what_to_do)
        check_equal(settings, block.settings, f"in {path}", self._what_to_do)
        return record

    def write(self, block: Block, record: Mapping[str, Any]) -> None:
        """Write the record of a block atomically."""
        path = self._path(block)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
            os.replace(partial, path)

    @property
    def _what_to_do(self) -> str:
        return f"to resume it, restore what it was begun with; to begin anew, move {self._folder} away"

    def _path(self, block: Block) -> Path:
        return self._folder / f"{block.name}.json"


def check_equal(found: Mapping[str, Any], expected: Mapping[str, Any], where: str, what_to_do: str) -> None:
    """Refuse values that differ, and name those alone.

    Args:
        found: Values that are there.
        expected: Values of this sweep.
        where: Place where they were found, in words.
        what_to_do: Advice that ends the message.

    Raises:
        SweepError: Some differ.
    """
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    if names:
        ours, theirs = (
            ", ".join(f"{name} {values.get(name)}" for name in names) for values in (expected, found)
        )
        raise SweepError(
            f"expected a block of this sweep ({ours}), found another ({theirs}) {where}: {what_to_do}."
        )
