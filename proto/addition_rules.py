"""Rules of what may be added to a bundle after its export: lowerings, and what the closed loop showed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saccade.proto.bundle_layout import bundle_path
from saccade.proto.errors import ManifestError
from saccade.proto.lowering_spec import CANONICAL

if TYPE_CHECKING:
    from saccade.proto.manifest import Manifest


def check_additions(manifest: Manifest) -> None:
    """Check the rules of a manifest's additions.

    Args:
        manifest: Manifest of a bundle, its other parts checked.

    Raises:
        ManifestError: The first rule that is broken.
    """
    names = [CANONICAL, *(lowering.name for lowering in manifest.lowerings)]
    if len(set(names)) != len(names):
        raise ManifestError(f"$.lowerings: expected unique names other than {CANONICAL}, found {names[1:]}.")
    for index, lowering in enumerate(manifest.lowerings):
        where = f"$.lowerings[{index}].graphs"
        if set(lowering.graphs) != set(manifest.graphs):
            raise ManifestError(
                f"{where}: expected one graph for each of {sorted(manifest.graphs)}, found {sorted(lowering.graphs)}."
            )
        for path in lowering.graphs.values():
            if bundle_path(path, where) not in manifest.files:
                raise ManifestError(f"{where}: expected a file listed in $.files, found {path!r}.")
    receipt = manifest.closed_loop
    outcomes = set() if receipt is None else set(receipt.outcomes)
    if unknown := outcomes - {profile.name for profile in manifest.profiles}:
        raise ManifestError(
            f"$.closed_loop.outcomes: expected profiles of this bundle, found {sorted(unknown)}."
        )
