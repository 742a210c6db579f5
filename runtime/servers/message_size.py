"""How large a message a daemon accepts: as large as its bundles need, for anyone may send one."""

from __future__ import annotations

from saccade.proto.errors import ServeError
from saccade.proto.manifest import Manifest

_MARGIN_BYTES = 1 << 20
_MOST_BYTES = (1 << 31) - 1
"""Largest message that Protocol Buffers can hold."""


def observation_bytes(manifest: Manifest) -> int:
    """Return the size of one observation's raw data, in bytes.

    Args:
        manifest: Manifest of the bundle that controls the robot.
    """
    return sum(view.height * view.width * 3 for view in manifest.views) + 4 * manifest.proprio.dim


def message_bytes(observation: int, question: int) -> int:
    """Return the size of the largest message worth accepting, from those of raw data.

    Args:
        observation: Raw data of one observation, bytes.
        question: Raw data of one question, bytes; 0 = nobody answers questions.

    Raises:
        ServeError: No message can be as large.
    """
    wanted = max(observation, question) + _MARGIN_BYTES
    if wanted > _MOST_BYTES:
        raise ServeError(
            f"expected pictures of at most {_MOST_BYTES - _MARGIN_BYTES} bytes, the most that fits "
            f"into a message, found {observation} in an observation and {question} in a question: export the bundle "
            "for fewer or smaller ones."
        )
    return wanted
