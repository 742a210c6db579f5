"""The gate against a slow, literal reading of its rule, and what the rule promises for any motion."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saccade.proto.manifest import ActionSpec
from saccade.proto.policy_spec import GateSpec
from saccade.runtime.guards.motion_gate import MotionGate
from tests.policies.oracles_adp import is_fast

ACTION = ActionSpec(
    ("dx", "dy", "dz", "droll", "gripper_opening"), ("m", "m", "m", "rad", "m"), 4, 20.0, "delta_ee"
)
specs = st.builds(GateSpec, st.integers(1, 4), st.integers(1, 4))
lengths = st.lists(st.integers(0, 1000), max_size=30)


def chunk(length: float) -> np.ndarray:
    """Forward by ``length`` in all, along a line in space, while the wrist and the fingers do what they like."""
    actions = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32) * 100
    actions[:, :3] = np.array([2, 3, 6], np.float32) / 7 * np.float32(length) / 4
    return actions


def states(spec: GateSpec, displacements: list[float]) -> list[bool]:
    gate, found = MotionGate(spec, ACTION), []
    for displacement in displacements:
        gate.note(chunk(displacement))
        found.append(gate.is_fast)
    return found


def by_the_rule(spec: GateSpec, displacements: list[int]) -> list[bool]:
    """The docstring in loops; whole numbers, so that sums are exact."""
    windowed: dict[int, int] = {}
    is_fast, found = False, []
    for now in range(len(displacements)):
        if now >= spec.window - 1:
            windowed[now] = sum(displacements[now - step] for step in range(spec.window))
        earlier = [windowed[now - back] for back in range(1, spec.look_back + 1) if now - back in windowed]
        if now in windowed and len(earlier) == spec.look_back:
            if all(windowed[now] > each for each in earlier):
                is_fast = True
            if all(windowed[now] < each for each in earlier):
                is_fast = False
        found.append(is_fast)
    return found


class ExactGate(MotionGate):
    """Lengths that are whole numbers come out whole, whatever the rounding of a norm."""

    def note(self, actions: np.ndarray) -> None:
        exact = np.zeros_like(actions)
        exact[0, 0] = round(float(np.linalg.norm(actions[:, :3].astype(np.float64).sum(axis=0))))
        super().note(exact)


@given(spec=specs, displacements=lengths)
def test_is_the_rule(spec: GateSpec, displacements: list[int]) -> None:
    gate, found = ExactGate(spec, ACTION), []
    for displacement in displacements:
        gate.note(chunk(displacement))
        found.append(gate.is_fast)
    assert found == by_the_rule(spec, displacements)
    whole = list(map(float, displacements))
    prefixes = [whole[: end + 1] for end in range(len(whole))]
    assert found == [is_fast(prefix, spec.window, spec.look_back) for prefix in prefixes], (
        "the policy's oracle"
    )


@given(spec=specs, displacements=lengths)
def test_is_slow_until_there_is_a_history(spec: GateSpec, displacements: list[int]) -> None:
    assert not any(states(spec, displacements)[: spec.window + spec.look_back - 1])


@given(spec=specs, start=st.integers(1, 5), step=st.integers(1, 5))
def test_speeding_up_is_fast_and_slowing_down_is_slow(spec: GateSpec, start: int, step: int) -> None:
    needed = spec.window + spec.look_back
    up = [start + step * n for n in range(needed + 8)]
    found = states(spec, [*up, *reversed(up)])
    assert all(found[needed - 1 : len(up)])
    assert not any(found[len(up) + needed :])


@given(spec=specs, displacements=lengths, power=st.integers(-10, 10))
def test_has_no_unit(spec: GateSpec, displacements: list[int], power: int) -> None:
    scaled = [displacement * 2.0**power for displacement in displacements]
    assert states(spec, scaled) == states(spec, list(map(float, displacements)))


@given(spec=specs, displacement=st.floats(0, 1), count=st.integers(1, 30))
def test_even_motion_changes_nothing(spec: GateSpec, displacement: float, count: int) -> None:
    assert not any(states(spec, [displacement] * count))


@given(spec=specs, before=lengths, after=lengths)
def test_a_reset_forgets(spec: GateSpec, before: list[int], after: list[int]) -> None:
    gate = MotionGate(spec, ACTION)
    for displacement in before:
        gate.note(chunk(displacement))
    gate.reset()
    assert not gate.is_fast
    found = []
    for displacement in after:
        gate.note(chunk(displacement))
        found.append(gate.is_fast)
    assert found == states(spec, list(map(float, after)))


def test_only_where_the_arm_comes_to_counts() -> None:
    """Turning the wrist, opening the fingers, and going forth and back within a chunk are no displacement."""
    gate = MotionGate(GateSpec(1, 1), ACTION)
    still = np.zeros((4, 5), np.float32)
    still[:, 3:] = 5
    still[0, :3], still[1, :3] = 9, -9
    gate.note(chunk(0.25))
    gate.note(chunk(0.5))
    assert gate.is_fast
    gate.note(still)
    assert not gate.is_fast
    gate.note(still * 2)
    assert not gate.is_fast


def test_the_published_setting_by_hand() -> None:
    displacements = [1, 1, 1, 2, 4, 4, 4, 3, 1, 1, 1, 1]
    # windowed:      -  -  3  4  7 10 12 11  6  5  3  3: 11 lies between 10 and 12, and changes nothing
    found = states(GateSpec(window=3, look_back=2), list(map(float, displacements)))
    assert "".join("f" if is_fast else "s" for is_fast in found) == "ssssffffssss"
