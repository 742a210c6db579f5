"""Rules of a checkpoint on logits; that they are transformers' is shown where the export is tested."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.proto.errors import EngineError
from saccade.proto.token_choice import GREEDY, TokenChoice
from saccade.runtime.answering.token_rules import TokenRules

LOGITS = np.array([2.0, -1.0, 4.0, 0.5], np.float32)


def test_nothing_changes_without_rules() -> None:
    rules = TokenRules(GREEDY, (3,), [0, 1, 2, 3], 1)
    np.testing.assert_array_equal(rules.apply(LOGITS), LOGITS)


def test_a_penalty_counts_prompt_question_and_answer_once_each() -> None:
    rules = TokenRules(TokenChoice(repetition_penalty=2.0, prompt=(1, 1, 99)), (3,), [2], 5)
    np.testing.assert_array_equal(rules.apply(LOGITS), [2.0, -2.0, 2.0, 0.5])
    rules.add(0)
    rules.add(0)
    np.testing.assert_array_equal(rules.apply(LOGITS), [1.0, -2.0, 2.0, 0.5])
    assert LOGITS.tolist() == [2.0, -1.0, 4.0, 0.5]


def test_a_run_may_begin_in_the_question() -> None:
    rules = TokenRules(TokenChoice(no_repeat_ngram=2, banned=((1, 3),)), (), [2, 0, 1], 5)
    assert np.isneginf(rules.apply(LOGITS)).tolist() == [False, False, False, True]
    rules.add(2)
    assert np.isneginf(rules.apply(LOGITS)).tolist() == [True, False, False, False]


def test_where_no_token_may_come_it_is_said() -> None:
    with pytest.raises(EngineError, match="expected a token that may come next, found none"):
        TokenRules(TokenChoice(suppressed=(0, 1, 2, 3)), (), [], 5).apply(LOGITS)
