"""What a bundle is for."""

from __future__ import annotations

from enum import Enum


class BundleKind(str, Enum):
    """What a bundle is for."""

    CONTROL = "control"
    """It turns observations into actions."""
    SCORER = "scorer"
    """It tells, once per task, how much each view matters to another bundle. It has no actions."""
    ANSWER = "answer"
    """It answers questions about pictures in text. It has no actions."""
