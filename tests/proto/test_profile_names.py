"""Profiles are called by their share of visual tokens."""

from __future__ import annotations

import pytest

from saccade.proto.profile_names import profile_name


@pytest.mark.parametrize(
    ("ratio", "name"), [(1.0, "full"), (0.5, "keep50"), (0.125, "keep12.5"), (0.001, "keep0.1")]
)
def test_the_name_is_the_percentage(ratio: float, name: str) -> None:
    assert profile_name(ratio) == name
