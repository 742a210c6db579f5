"""What an export has done, for machines: the same fields for every kind of bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.export.bundle.receipts import plain
from saccade.export.bundle.recipe import BundleReport


def as_json(report: BundleReport[Any], out: Path) -> dict[str, Any]:
    """Return what ``--json`` prints.

    Args:
        report: What was written.
        out: Where the bundle lies.
    """
    manifest = report.manifest
    keep = {profile.name: profile.keep for profile in manifest.profiles}
    return {
        "bundle": str(out),
        "name": manifest.name,
        "kind": manifest.kind.value,
        "policy": manifest.policy.name,
        "license": manifest.license,
        "visual_tokens": manifest.grid.tokens,
        "profiles": {name: {"keep": keep[name], **plain(found)} for name, found in report.parity.items()},
        "nodes": {name: receipt.nodes for name, receipt in report.lint.items()},
        "macs": {name: account["macs"] for name, account in report.accounting.items()},
        "tensorrt_rtx": plain(report.engines),
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "seconds": dict(report.seconds),
        "never_varied": plain(report.never_varied),
    }
