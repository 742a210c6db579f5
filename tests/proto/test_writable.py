"""Where nothing can be written is known before anything is written."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from saccade.proto.errors import FileError
from saccade.proto.writable import check_file, check_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_can_be_written_is_not_there_yet_and_one_that_is_stays(tmp_path: Path) -> None:
    check_file(tmp_path / "new.json")
    assert names(tmp_path) == []
    (tmp_path / "old.json").write_text("kept")
    (tmp_path / "link.json").symlink_to("old.json")
    for name in ("old.json", "link.json"):
        check_file(tmp_path / name)
    assert (tmp_path / "old.json").read_text() == "kept"
    check_file(Path("/dev/null"))


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (".", "a path that ends in the name to write"),
        ("/", "a path that ends in the name to write"),
        ("folder/..", "a path that ends in the name to write"),
        ("folder", "found a folder: name a file in it"),
        ("link", "found a folder: name a file in it"),
        ("missing/new", "No such file or directory; check the path"),
        ("lost", "No such file or directory; check the path"),
        ("file/new", "Not a directory; what stands before it in the path is a file"),
        ("loop", "remove the links that lead to each other"),
        ("n" * 300, "choose a shorter name"),
        ("/dev/full", "No space left on device; make room"),
        ("/proc/new", "expected a usable file or folder at /proc/new"),
    ],
)
def test_where_no_file_can_be_written(
    place: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.startswith(("/dev/", "/proc/")) and not Path("/dev/full").exists():
        pytest.skip("Linux's own")
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("")
    for link, target in (("link", "folder"), ("lost", "missing/new"), ("loop", "loop")):
        Path(link).symlink_to(target)
    before = names(tmp_path)
    with pytest.raises(FileError, match=re.escape(why)):
        check_file(Path(place))
    assert names(tmp_path) == before


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "runs" / "mini")
    check_folder(tmp_path / "runs" / "mini")
    assert names(tmp_path / "runs" / "mini") == []
    (tmp_path / "file").write_text("")
    for place in ("file", "file/runs"):
        with pytest.raises(FileError, match=f"expected a usable file or folder at {tmp_path / place}, found"):
            check_folder(tmp_path / place)


def test_room_is_asked_for(tmp_path: Path) -> None:
    """A limit of file sizes stands in for a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, before[1]))
    try:
        for check, place in ((check_file, tmp_path / "new"), (check_folder, tmp_path)):
            with pytest.raises(FileError, match="File too large; raise the limit"):
                check(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []
