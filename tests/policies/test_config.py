"""Which options a search may set, and within which box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from saccade.policies.config import PolicyConfig, Tunable, search_space, tunable
from saccade.policies.methods.keep_all import KeepAll
from saccade.policies.registry import build_policy, policy_class
from saccade.policies.testing.dry_run import GRID, SHAPE
from saccade.proto.errors import PolicyError


@dataclass(frozen=True, kw_only=True)
class ManyKinds(PolicyConfig):
    plain: int = 3
    whole: int = tunable(2, 1, 4)
    real: float = tunable(0.5, 0, 1)
    unset: float | None = tunable(None, 0.25, 0.75)
    unset_whole: int | None = tunable(None, 1, 9)
    word: Literal["a", "b"] = tunable("a")
    grown: float = tunable(2.0, 0.05, 0.5, of="side", least=1.0)


def test_each_kind_of_option_has_its_box() -> None:
    assert search_space(ManyKinds, {"side": 12.0}) == {
        "whole": Tunable("int", 1.0, 4.0),
        "real": Tunable("float", 0.0, 1.0),
        "unset": Tunable("float", 0.25, 0.75),
        "unset_whole": Tunable("int", 1.0, 9.0),
        "word": Tunable("choice", choices=("a", "b")),
        "grown": Tunable("float", 1.0, 6.0),
    }


def test_a_tunable_option_is_an_option_like_any_other() -> None:
    assert ManyKinds().as_dict() == {
        "plain": 3, "whole": 2, "real": 0.5, "unset": None, "unset_whole": None, "word": "a",
        "grown": 2.0,
    }  # fmt: skip
    assert ManyKinds.from_options("many", {"whole": 4, "word": "b"}).whole == 4
    with pytest.raises(PolicyError, match="'whole' of policy 'many' must be int"):
        ManyKinds.from_options("many", {"whole": 1.5})


def test_a_policy_without_a_box_has_nothing_to_search() -> None:
    assert search_space(KeepAll.options, {}) == {}


@pytest.mark.parametrize("name", ["vla_pruner", "todre", "vflowopt", "quota"])
def test_the_corners_of_a_box_are_values_that_the_policy_takes(name: str) -> None:
    space = search_space(policy_class(name).options, GRID.units)
    assert space
    for option, box in space.items():
        kind = int if box.kind == "int" else float
        for value in box.choices or (kind(box.low), kind(box.high)):
            assert build_policy(name, {option: value}, SHAPE).config.as_dict()[option] == value
