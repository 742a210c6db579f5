"""Is a folder a mount point? Nothing can be renamed to or away from one."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_PLACE = 4
"""Field of a line that holds the mount point; spaces and the like stand in it as octal numbers."""


def is_mount_point(folder: Path) -> bool:
    """Say whether something is mounted at a folder, a part of the same file system too (a bind mount)."""
    if os.path.ismount(folder):
        return True
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:  # a system that has no such file
        return False
    place = os.path.realpath(folder)
    return any(_unescaped(line.split(" ")[_PLACE]) == place for line in lines)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
