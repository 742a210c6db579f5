"""Names, options and suggestions."""

from __future__ import annotations

import json

import pytest

from saccade.policies.dry_run import SHAPE
from saccade.policies.registry import POLICIES, build_policy
from saccade.proto.errors import PolicyError


def test_every_policy_builds_with_defaults_under_its_own_name() -> None:
    for name in POLICIES:
        assert build_policy(name, {}, SHAPE).name == name


def test_resolved_configs_are_plain_json() -> None:
    for name in POLICIES:
        config = build_policy(name, {}, SHAPE).config.as_dict()
        assert json.loads(json.dumps(config)) == config
        assert config.get("insertion_layer", 0) is not None


def test_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(PolicyError, match=r"'vla_prunner'; did you mean 'vla_pruner'\? known: "):
        build_policy("vla_prunner", {}, SHAPE)


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(PolicyError, match=r"no option 'windw'; did you mean 'window'\?"):
        build_policy("vla_pruner", {"windw": 3}, SHAPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 3.5}, "'window' of policy 'vla_pruner' must be int, found 3.5"),
        ({"window": True}, "must be int, found True"),
        ({"decay": "high"}, "must be float, found 'high'"),
        ({"rows": "words"}, "must be one of 'text', 'last', 'all', found 'words'"),
        ({"insertion_layer": "first"}, "must be int or null, found 'first'"),
        ({"budget": ["joint"]}, "must be one of 'joint', 'per_view'"),
    ],
)
def test_wrong_types_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("vla_pruner", options, SHAPE)


def test_an_int_is_a_float_and_null_is_the_default() -> None:
    policy = build_policy("vla_pruner", {"decay": 1, "insertion_layer": None}, SHAPE)
    assert policy.config.as_dict()["decay"] == 1.0
    assert policy.config.as_dict()["insertion_layer"] == 1
