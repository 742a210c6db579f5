"""keep_all keeps everything and says so when asked for less."""

from __future__ import annotations

import pytest

from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE
from saccade.proto.errors import PolicyError


class TestKeepAll(TokenPolicyConformance):
    policy_name = "keep_all"
    keeps = (GRID.tokens,)


def test_a_smaller_keep_is_refused_with_a_way_out() -> None:
    policy = build_policy("keep_all", {}, SHAPE)
    with pytest.raises(
        PolicyError, match=r"keeps all 40 visual tokens, found keep 10; export it with --keep 1\.0"
    ):
        policy.schedule(10)
