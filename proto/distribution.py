"""Under which name Saccade is distributed, which version this is, and what to type for a part that is missing.

Written down here and nowhere else: the build reads the version from this file, and a checkout that was never installed
knows it too.
"""

from __future__ import annotations

DISTRIBUTION = "saccade-vla"
VERSION = "0.1.0"


def install_hint(*extras: str) -> str:
    """Return the command that installs extras of Saccade.

    Args:
        extras: Names of extras, e.g. ``serve``.

    Returns:
        A command for a shell, e.g. ``pip install 'saccade-vla[serve]'``.
    """
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"
