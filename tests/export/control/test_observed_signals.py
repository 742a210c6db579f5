"""Signals of the unpruned model are those that a policy sees where it cuts, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.export.control.calibration import PolicyBuilder
from saccade.export.control.observed_signals import observe_signals
from saccade.export.steps.policy_checks import model_shape
from saccade.policies.blocks.sinks import sink_threshold
from saccade.policies.registry import build_policy
from saccade.policies.signals import AttentionReceived, QueryRows, VisionAttention, VisionRows
from saccade.proto.errors import ExportError
from tests.export.samples import observation, tiny_model
from tests.policies.deep_model import Recorded

COLUMNS = AttentionReceived(QueryRows.ALL, (1,))
PATCHES = VisionAttention(VisionRows.PATCHES, (0,), 0)


def test_what_is_observed_is_what_a_cut_sees() -> None:
    model = tiny_model()
    frames = [observation(model, seed=seed) for seed in range(2)]
    found = observe_signals(model, frames, (COLUMNS, PATCHES))
    policy = build_policy("fastv", {"rows": "all", "insertion_layer": 2}, model_shape(model))
    for number, frame in enumerate(frames):
        recorded = Recorded(model, policy, 3)
        recorded.run(frame)
        np.testing.assert_allclose(
            found[str(COLUMNS)][number], recorded.seen[0][0].signals[0][0].numpy(), rtol=1e-5
        )
    assert np.shape(found[str(PATCHES)]) == (2, model.grid.tokens)


def test_a_policy_is_calibrated_with_what_it_asks_for() -> None:
    model = tiny_model()
    frames = [observation(model, seed=seed) for seed in range(2)]
    builder = PolicyBuilder(model, frames)
    policy, decided = builder.build("fastv", {"exclude_sinks": "auto", "insertion_layer": 2})
    expected = sink_threshold(observe_signals(model, frames, (COLUMNS,))[str(COLUMNS)])
    assert decided == {"exclude_sinks": pytest.approx(expected)}
    assert policy.config.as_dict()["exclude_sinks"] == decided["exclude_sinks"]
    first = builder.measured
    assert first is not None and list(first.signals) == [str(COLUMNS)] and first.head_outputs == ()
    builder.build("fastv", {"exclude_sinks": "auto", "insertion_layer": 2})
    assert builder.measured is first
    builder.build("spatten", {})
    assert builder.measured is not None and builder.measured.signals == first.signals


def test_a_signal_that_the_model_lacks_is_named() -> None:
    with pytest.raises(ExportError, match=r"expected signals of decoder layers 0\.\.2, found \(9,\)"):
        observe_signals(tiny_model(), [], (AttentionReceived(QueryRows.ALL, (9,)),))
