"""Names, options and suggestions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.policies.registry import POLICIES, build_policy
from saccade.policies.testing.dry_run import SHAPE
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
        ({"rows": "words"}, "must be one of 'before_action', 'text', 'last', 'all' or null, found 'words'"),
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


OUTSIDE = """
from saccade.policies.methods.fastv import FastV

class Mine(FastV):
    name = "mine"
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Put a package with one entry point on the path, as pip would leave it."""
    (folder / "mine_package.py").write_text(OUTSIDE)
    installed = folder / "mine_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[saccade.policies]\n{line}\n")
    monkeypatch.syspath_prepend(folder)


def test_another_package_registers_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "mine = mine_package:Mine")
    assert build_policy("mine", {"insertion_layer": 2}, SHAPE).name == "mine"
    with pytest.raises(PolicyError, match="did you mean 'mine'"):
        build_policy("mne", {}, SHAPE)


@pytest.mark.parametrize(
    ("line", "name", "message"),
    [
        ("fastv = mine_package:Mine", "fastv", "expected each policy name once, found 'fastv'"),
        ("mine = mine_package:Missing", "mine", "cannot be loaded"),
        ("mine = no_such_package:Mine", "mine", "cannot be loaded"),
        ("other = mine_package:Mine", "other", "expected a TokenPolicy whose name is 'other', found 'mine'"),
        ("mine = mine_package:__name__", "mine", "expected a TokenPolicy whose name is 'mine'"),
    ],
)
def test_a_bad_registration_is_named(
    line: str, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, line)
    with pytest.raises(PolicyError, match=message):
        build_policy(name, {}, SHAPE)
