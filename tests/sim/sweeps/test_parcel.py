"""A bundle arrives as it was packed, with its scorer, and nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from saccade.proto.errors import SweepError
from saccade.sim.sweeps.identity import bundle_digest
from saccade.sim.sweeps.parcel import Unpacked, pack


def test_what_arrives_is_what_was_packed(bundle: Path, tmp_path: Path) -> None:
    acts = shutil.copytree(bundle, tmp_path / "acts")
    unpacked = Unpacked()
    alone = unpacked.bundle("alone", pack(acts))
    assert alone != acts and bundle_digest(alone) == bundle_digest(acts)
    assert unpacked.bundle("alone", {}) == alone  # known already
    shutil.copytree(bundle, tmp_path / "acts.scorer")
    both = unpacked.bundle("both", pack(acts))
    assert bundle_digest(both) == bundle_digest(acts) != bundle_digest(bundle)
    assert not alone.exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "bundle/../../outside"])
def test_nothing_leaves_the_folder(name: str) -> None:
    with pytest.raises(SweepError, match="to lie in it"):
        Unpacked().bundle("x", {name: b""})
