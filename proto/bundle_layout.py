"""File names inside a bundle, size caps, and the rule for paths."""

from __future__ import annotations

from saccade.proto.errors import ManifestError

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 64 << 30


def bundle_path(text: str, where: str) -> str:
    """Check that ``text`` is a plain relative POSIX path that stays within the bundle, and return it.

    Args:
        text: For example ``graphs/weights.bin``.
        where: JSON path for the message.

    Raises:
        ManifestError: Absolute, not normalised, upward, or with a character that some system forbids.
    """
    parts = text.split("/")
    plain = text.isprintable() and not set('\\:*?"<>|') & set(text)
    if not plain or not all(parts) or {".", ".."} & set(parts):
        raise ManifestError(
            f"{where}: expected a relative path within the bundle, such as 'graphs/weights.bin', "
            f"found {text!r}."
        )
    return text
