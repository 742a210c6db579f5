"""Which published layouts can be exported: what happens to each, and the page that says it.

`python -m tests.export.layouts.table` tries them all and writes the page again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import read_prompted
from saccade.export.families.registry import load_checkpoint
from saccade.export.inspection.checkpoint import inspect_checkpoint
from saccade.proto.errors import SaccadeError
from saccade.proto.inspection import InspectionRequest
from tests.export.layouts import answering, flow, openvla
from tests.export.layouts.folders import Bases, Layout

PAGE = Path(__file__).parents[3] / "docs/published.md"
WORKS = "**works**"
BEGIN, END = "<!-- made by tests/export/layouts/table.py -->", "<!-- end -->"
GROUPS: Mapping[str, Mapping[str, Layout]] = {
    "OpenVLA and OpenVLA-OFT": openvla.LAYOUTS,
    "π0, π0.5, SmolVLA and the rest of lerobot and openpi": flow.LAYOUTS,
    "Models that answer": answering.LAYOUTS,
}
WRITERS = {**openvla.BASES, **flow.BASES, **answering.BASES}


def outcomes(root: Path) -> dict[str, str]:
    """Write every layout and try it: name to what happened.

    Args:
        root: Folder for them; each is written into one called ``FOLDER``, which is what messages name.
    """
    bases = Bases(root / "bases", WRITERS)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        flow.know_tiny_variants(patch)
        answering.know_tiny_tower(patch)
        for group in GROUPS.values():
            for number, (name, layout) in enumerate(group.items()):
                found[name] = outcome(bases, layout, root / f"{layout.base}-{number}" / "FOLDER")
    return found


def outcome(bases: Bases, layout: Layout, folder: Path) -> str:
    """Write a layout, look at it and read it as an export does: ``works with ...``, or what is said instead."""
    given = layout.change(bases.copy(layout.base, folder))
    path = given if isinstance(given, Path) else folder
    try:
        _look(path, layout)
        return f"{WORKS} with `{_read(path, layout)}`"
    except SaccadeError as error:
        return error.message.replace(str(folder), "FOLDER")


def _look(path: Path, layout: Layout) -> None:
    size = layout.asked.get("image_size")
    frames = layout.asked.get("frames", 0)
    inspect_checkpoint(path, InspectionRequest(image_size=size, frames=frames))


def _read(path: Path, layout: Layout) -> str:
    """Read a checkpoint, and return the command that would export it."""
    if layout.base not in answering.BASES:
        load_checkpoint(path, mapped=True)
        return "saccade export"
    read_prompted(path, Deployment(**layout.asked))
    return "saccade export-answering"


def page(text: str, found: Mapping[str, str]) -> str:
    """Return the page with the tables in it."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "\n".join([head + BEGIN, *_tables(found), END + tail])


def _tables(found: Mapping[str, str]) -> Iterator[str]:
    for title, group in GROUPS.items():
        yield from ("", f"### {title}", "", "| layout | what happens |", "|---|---|")
        for name in group:
            said = found[name].replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
            yield f"| {name} | {said} |"
    yield ""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        tried = outcomes(Path(place))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), tried), encoding="utf-8")
