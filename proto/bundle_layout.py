"""File names inside a bundle, size caps, and the rule for paths."""

from __future__ import annotations

from saccade.proto.errors import ManifestError

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 64 << 30


def bundle_path(text: str, where: str) -> str:
    """Check that ``text`` is a plain relative POSIX path that stays within the bundle, and return it.

    Args:
        text: Path of a file in a bundle, e.g. ``graphs/weights.bin``.
        where: JSON path of the text, for the message.

    Raises:
        ManifestError: The path is absolute, not normalised, leads upward, or has a character that some system forbids.
    """
    parts = text.split("/")
    plain = text.isprintable() and not set('\\:*?"<>|') & set(text)
    if not plain or not all(parts) or {".", ".."} & set(parts):
        raise ManifestError(
            f"{where}: expected a relative path within the bundle, such as 'graphs/weights.bin', "
            f"found {text!r}."
        )
    return text
