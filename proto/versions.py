"""The version numbers that two programs must agree on, and the rule by which they do.

One integer each. A number grows only when an old reader would misread new data; additions that an old reader
can ignore are not allowed in the bundle (its reader is strict) and need no new number on the wire (protobuf
skips unknown fields).
"""

from __future__ import annotations

from saccade.proto.errors import BundleVersionError, VersionError

BUNDLE_FORMAT_VERSION = 1
WIRE_VERSION = 1


def check_bundle_version(found: int) -> None:
    """Refuse a bundle of another format.

    Raises:
        BundleVersionError: The bundle has another format version than this build reads.
    """
    if found != BUNDLE_FORMAT_VERSION:
        remedy = "export it again" if found < BUNDLE_FORMAT_VERSION else "update saccade"
        raise BundleVersionError(
            f"expected bundle format_version {BUNDLE_FORMAT_VERSION}, found {found}: {remedy}."
        )


def check_wire_version(found: int) -> None:
    """Refuse a peer that speaks another wire version.

    Raises:
        VersionError: The peer speaks another wire version than this build.
    """
    if found != WIRE_VERSION:
        raise VersionError(
            f"expected wire version {WIRE_VERSION}, found {found}: install the same saccade on both sides."
        )
