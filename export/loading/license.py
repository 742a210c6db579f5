"""The license of a checkpoint's weights, as its model card declares it."""

from __future__ import annotations

import re

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.file_errors import read_text

UNKNOWN = "unknown"
_CARD = "README.md"
_SPDX = {
    name.lower(): name
    for name in (
        "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MPL-2.0", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0",
        "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0",
    )
}  # fmt: skip
_FIELD = re.compile(
    r"""^(license|license_name):[ \t]*["']?([A-Za-z0-9][A-Za-z0-9.+_-]*)["']?[ \t]*$""", re.MULTILINE
)


def read_license(folder: CheckpointFolder) -> str:
    """Return the license that the model card of a checkpoint declares in its front matter.

    Args:
        folder: Directory of the checkpoint.

    Returns:
        An SPDX identifier: one of the list, or ``LicenseRef-`` and the card's own word. ``unknown`` if there is no card
        or it declares none.
    """
    card = folder / _CARD
    text = read_text(card, errors="replace") if card.is_file() else ""
    matter = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    found = dict(_FIELD.findall(matter[1].replace("\r", ""))) if matter else {}
    declared = found.get("license", "")
    if declared.lower() == "other":
        declared = found.get("license_name", declared)
    if not declared:
        return UNKNOWN
    return _SPDX.get(declared.lower(), "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", declared))
