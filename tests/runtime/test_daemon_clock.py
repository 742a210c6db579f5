from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.daemon_clock import DaemonClock


def answer(sequence: int, ahead_ns: int) -> wire.ActionChunk:
    now_ns = monotonic_ns() + ahead_ns
    return wire.ActionChunk(sequence=sequence, arrived_server_ns=now_ns, replied_server_ns=now_ns)


def test_what_is_known_leaves_with_the_next_observation() -> None:
    clock = DaemonClock()
    assert not clock.send(wire.Observation(sequence=1)).HasField("clock")
    clock.receive(answer(1, 10**12))
    told = clock.send(wire.Observation(sequence=2)).clock
    assert abs(told.offset_ns - 10**12) <= told.uncertainty_ns


def test_what_says_nothing_teaches_nothing() -> None:
    clock = DaemonClock()
    clock.receive(answer(1, 0))  # nobody asked
    clock.send(wire.Observation(sequence=2))
    clock.forget(2)
    clock.receive(answer(2, 0))
    clock.send(wire.Observation(sequence=3))
    clock.receive(wire.ActionChunk(sequence=3))  # of a daemon that does not tell its times
    assert clock.estimate() is None
