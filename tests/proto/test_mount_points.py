"""A mount point is known as one."""

from pathlib import Path

import pytest

from saccade.proto import mount_points
from saccade.proto.mount_points import is_mount_point


def test_what_is_mounted_and_what_is_not(tmp_path: Path) -> None:
    assert is_mount_point(Path("/")) and is_mount_point(Path("/dev"))
    assert not is_mount_point(tmp_path) and not is_mount_point(tmp_path / "missing")


def test_a_bind_mount_is_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux lists it, where the device is that of the folder around it."""
    folder = tmp_path / "a bundle"
    folder.mkdir()
    listed = tmp_path / "mountinfo"
    escaped = str(folder).replace(" ", "\\040")
    listed.write_text(f"36 35 98:0 /other {escaped} rw,noatime master:1 - ext3 /dev/root rw\n")
    monkeypatch.setattr(mount_points, "_MOUNTS", listed)
    assert is_mount_point(folder)
    assert not is_mount_point(tmp_path)
