"""How tokens are chosen, as data: what cannot be is refused, and what is said comes back."""

from __future__ import annotations

from typing import Any

import pytest

from saccade.proto.errors import ManifestError
from saccade.proto.strict_json import from_json, to_json
from saccade.proto.token_choice import GREEDY, TokenChoice


def test_it_goes_through_json() -> None:
    choice = TokenChoice(temperature=0.7, top_k=20, banned=((1, 2), (3,)), suppressed=(4,), prompt=(5, 6))
    assert from_json(TokenChoice, to_json(choice)) == choice
    assert to_json(GREEDY) == {}
    assert sorted(choice.ids) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"repetition_penalty": 0.0},
        {"no_repeat_ngram": -1},
        {"banned": ((),)},
        {"suppressed": (-1,)},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="choice: expected temperature"):
        TokenChoice(**wrong)
