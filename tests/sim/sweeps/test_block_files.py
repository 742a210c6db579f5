"""A record is read again only by the sweep that wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.proto.errors import SweepError
from saccade.sim.sweeps.block import Block
from saccade.sim.sweeps.block_files import BlockFiles, check_equal

IDENTITY = {"saccade": "1", "bundle": "abc"}


@pytest.fixture
def block(tmp_path: Path) -> Block:
    return Block(bundle="one", path=tmp_path, template="reach", profile="full", seeds=range(2))


def test_what_is_written_is_read(block: Block, tmp_path: Path) -> None:
    files = BlockFiles(tmp_path / "blocks")
    assert files.read(block, IDENTITY) is None
    record = {"settings": block.settings, "identity": IDENTITY, "episodes": [1, 2]}
    files.write(block, record)
    assert files.read(block, IDENTITY) == record
    assert [path.name for path in (tmp_path / "blocks").iterdir()] == ["one.reach.full.0_1.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"identity": {**IDENTITY, "saccade": "0"}},
            r"this sweep \(saccade 1\), found another \(saccade 0\)",
        ),
        (
            {"identity": {**IDENTITY, "bundle": "xyz"}},
            r"this sweep \(bundle abc\), found another \(bundle xyz\)",
        ),
        ({"identity": {"saccade": "1"}}, r"\(bundle abc\), found another \(bundle None\)"),
        ({"settings": {}}, r"execute 4.*found another.*execute None"),
    ],
)
def test_another_sweep_is_refused(
    block: Block, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    files = BlockFiles(tmp_path / "blocks")
    files.write(block, {"settings": block.settings, "identity": IDENTITY, **change})
    with pytest.raises(SweepError, match=message) as refused:
        files.read(block, IDENTITY)
    assert refused.value.message.endswith(f"to begin anew, move {tmp_path / 'blocks'} away.")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": {}}'])
def test_what_is_no_record_is_refused(block: Block, tmp_path: Path, text: str) -> None:
    (tmp_path / f"{block.name}.json").write_text(text)
    with pytest.raises(SweepError, match=r"record of a block in .*one\.reach\.full\.0_1\.json.*: remove it"):
        BlockFiles(tmp_path).read(block, IDENTITY)


def test_only_what_differs_is_named() -> None:
    check_equal({"a": 1, "b": 2}, {"b": 2, "a": 1}, "here", "")
    with pytest.raises(SweepError, match=r"sweep \(b 3\), found another \(b 2\) here: do it\."):
        check_equal({"a": 1, "b": 2}, {"a": 1, "b": 3}, "here", "do it")
