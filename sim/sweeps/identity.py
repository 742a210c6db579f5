"""What must be equal for two blocks to be parts of one sweep: saccade, the simulator, the bundle, what computes."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from saccade.proto.manifest import read_manifest
from saccade.runtime.provenance import versions

_PACKAGES = ("saccade", "mujoco", "numpy", "onnxruntime")
_EPISODES = ("closed_loop.py", "live_time.py", "tabletop")


def identity(bundle: Path) -> dict[str, str]:
    """Return versions and digests by name.

    Args:
        bundle: Directory of the bundle.

    Raises:
        BundleError: There is no bundle.
    """
    known = versions()
    packages = {name: known[name] for name in _PACKAGES if name in known}
    return {**packages, "simulator": simulator_digest(), "bundle": bundle_digest(bundle)}


def simulator_digest() -> str:
    """Return the digest of the code that decides what an episode is and whether it succeeded."""
    digest, root = hashlib.sha256(), Path(str(files("saccade.sim")))
    for name in _EPISODES:
        place = root / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def bundle_digest(bundle: Path) -> str:
    """Return the digest of what acts: graphs, weights, tokenizer, scales and rules, not when it was exported.

    Args:
        bundle: Directory of the bundle; a view scorer beside it counts too.

    Raises:
        BundleError: There is no bundle.
    """
    manifest = read_manifest(bundle)
    held = {path: spec.sha256 for path, spec in manifest.files.items() if not path.startswith("receipts/")}
    rules: list[Any] = [manifest.policy, manifest.limits, manifest.profiles, sorted(held.items())]
    if (scorer := scorer_beside(bundle)) is not None:
        rules.append(bundle_digest(scorer))
    return hashlib.sha256(repr(rules).encode()).hexdigest()[:16]


def scorer_beside(bundle: Path) -> Path | None:
    """Return the scorer bundle ``<bundle>.scorer``, if there is one.

    Args:
        bundle: Directory of the bundle that acts.
    """
    scorer = bundle.with_name(f"{bundle.name}.scorer")
    return scorer if scorer.is_dir() else None
