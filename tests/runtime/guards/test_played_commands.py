import numpy as np

from saccade.runtime.guards.played_commands import PlayedCommands
from saccade.runtime.motion.axis_geometry import AxisGeometry
from tests.runtime.motion.limits_samples import limits_of

STEP = 100
CHUNK = np.array([[0.1], [0.2], [0.4], [0.7]], np.float32)


def played(seen_ns: int, executed: int | None, start: float | None = 0.0) -> PlayedCommands:
    commands = PlayedCommands(AxisGeometry(limits_of(1)), 1, STEP)
    if start is not None:
        commands.stand(np.array([start]))
    commands.note(CHUNK, 1_000)
    commands.play(seen_ns, executed)
    return commands


def test_the_time_tells_how_many_actions_were_played() -> None:
    for seen_ns, place, ways in (
        (900, 0.0, [0.0, 0.0]),  # another clock, or asked for before: nothing was
        (1_099, 0.0, [0.0, 0.0]),
        (1_100, 0.1, [0.0, 0.1]),
        (1_320, 0.4, [0.1, 0.2]),
        (1_400, 0.7, [0.2, 0.3]),
        (1_500, 0.7, [0.3, 0.0]),  # a whole step without an action: it stood
        (9_999, 0.7, [0.0, 0.0]),
    ):
        found = played(seen_ns, None)
        assert found.place is not None
        np.testing.assert_allclose(found.place, [place], atol=1e-6)
        np.testing.assert_allclose(found.ways[:, 0], ways, atol=1e-6)


def test_what_the_client_says_counts_for_more_than_the_time() -> None:
    found = played(9_999, 2)
    np.testing.assert_allclose((found.place, *found.ways), [[0.2], [0.1], [0.1]], atol=1e-6)
    found.play(9_999, 3)  # the next observation, if this one was answered by an error
    np.testing.assert_allclose((found.place, *found.ways), [[0.4], [0.1], [0.2]], atol=1e-6)
    assert played(0, 99).place == np.float32(0.7)


def test_where_nobody_knows_the_start_the_first_way_is_none() -> None:
    found = played(1_200, None, start=None)
    np.testing.assert_allclose((found.place, *found.ways), [[0.2], [0.0], [0.1]], atol=1e-6)
    found.reset()
    assert found.place is None
