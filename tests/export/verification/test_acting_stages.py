"""Our side of a family that acts: what comes out is what the host would send to the robot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saccade.export.control.frames import synthetic_recording
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.verification.acting_stages import action_stages, named_inputs, noise_of
from saccade.proto.manifest import ActionSpec


def test_actions_in_units_count_from_the_state_where_they_are_relative(checkpoint: Checkpoint) -> None:
    recording, action = synthetic_recording(checkpoint, 2), checkpoint.embodiment.action
    relative = (True, *(False,) * (action.dim - 1))
    spec: ActionSpec = replace(action, relative=relative)
    moved = replace(checkpoint, embodiment=replace(checkpoint.embodiment, action=spec))
    actions = np.zeros((action.chunk, action.dim), np.float32)
    plain, counted = (action_stages(each, recording, actions, 1) for each in (checkpoint, moved))
    difference = counted["actions in units"] - plain["actions in units"]
    np.testing.assert_allclose(difference[:, 0], recording.proprio[1, 0], rtol=1e-6)
    np.testing.assert_array_equal(difference[:, 1:], 0)
    np.testing.assert_array_equal(counted["actions"], actions)


def test_a_model_that_draws_nothing_has_no_noise(checkpoint: Checkpoint) -> None:
    assert noise_of(named_inputs(synthetic_recording(checkpoint, 2), checkpoint)) is None
