"""Token ids to bins to physical units."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.export.families.openvla.action_tokens import ActionTokens


def test_the_last_ids_before_the_padding_are_actions_and_rise_downwards() -> None:
    tokens = ActionTokens(end=32000)
    assert tokens.first == 31744
    found = tokens.normalised(np.array([31999, 31998, 31746, 31745, 31744]))
    width = 2 / 255
    expected = [-1 + width / 2, -1 + 3 * width / 2, 1 - 3 * width / 2, 1 - width / 2, 1 - width / 2]
    np.testing.assert_allclose(found, expected, atol=1e-12)  # the two lowest ids share the last bin


def test_every_value_is_the_centre_of_the_bin_that_training_put_it_in() -> None:
    """Training digitised against the edges: bin ``d`` of ``np.digitize`` is the token ``end - d``."""
    tokens, edges = ActionTokens(end=96, edges=16), np.linspace(-1, 1, 16)
    values = np.linspace(-1, 1, 1001)
    found = tokens.normalised(96 - np.digitize(values, edges))
    assert np.abs(found - values).max() <= 1 / 15 + 1e-12


def test_what_is_no_action_token_counts_as_the_nearest() -> None:
    tokens = ActionTokens(end=32000)
    found = tokens.normalised(np.array([[0, 2], [32000, 32063]]))
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found, [[tokens.centres[-1]] * 2, [tokens.centres[0]] * 2])


@pytest.mark.parametrize("edges", [2, 3, 256])
def test_there_is_one_bin_less_than_there_are_edges(edges: int) -> None:
    centres = ActionTokens(end=500, edges=edges).centres
    assert len(centres) == edges - 1
    np.testing.assert_allclose(centres, -centres[::-1], atol=1e-12)
