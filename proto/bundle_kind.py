"""What a bundle is for."""

from __future__ import annotations

from enum import Enum


class BundleKind(str, Enum):
    """What a bundle is for."""

    CONTROL = "control"
    """A bundle that turns observations into actions."""
    SCORER = "scorer"
    """A bundle that tells, once per task, how much each view matters to another bundle. It has no actions."""
    ANSWER = "answer"
    """A bundle that answers questions about pictures in text. It has no actions."""
