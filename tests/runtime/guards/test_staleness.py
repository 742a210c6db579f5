"""Order, age and lateness: the edges, and what the messages tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.proto.errors import LateChunkError, ObservationError, StaleObservationError
from saccade.runtime.guards.staleness import check_age, check_in_time, check_order

MAX_AGE_NS = 100_000_000


@given(st.integers(0, 2**63), st.integers(-(2**63), 2**63))
def test_only_what_counts_up_is_used(last: int, step: int) -> None:
    if step > 0:
        check_order(last + step, last)
        return
    with pytest.raises(ObservationError, match=f"above {last}, found {last + step}: count up"):
        check_order(last + step, last)


@pytest.mark.parametrize("age_ns", [0, 1, MAX_AGE_NS])
def test_what_is_young_enough_passes(age_ns: int) -> None:
    check_age(age_ns, MAX_AGE_NS)
    check_in_time(age_ns, MAX_AGE_NS, "ready")
    check_in_time(age_ns, MAX_AGE_NS, "arrived")


@pytest.mark.parametrize(("age_ns", "found"), [(MAX_AGE_NS + 60_000, "100.1"), (-1_000_000, "-1.0")])
def test_what_is_older_or_of_the_future_is_refused(age_ns: int, found: str) -> None:
    with pytest.raises(
        StaleObservationError, match=rf"0 to 100\.0 ms ago, found {found} ms: send a newer one"
    ):
        check_age(age_ns, MAX_AGE_NS)
    with pytest.raises(LateChunkError, match=rf"within 100\.0 ms .* ready after {found} ms: .* --max-age-ms"):
        check_in_time(age_ns, MAX_AGE_NS, "ready")
    with pytest.raises(
        LateChunkError, match=rf"arrived after {found} ms: it is dropped, hold the arm; is the net"
    ):
        check_in_time(age_ns, MAX_AGE_NS, "arrived")


@given(st.integers(-(2**63), 2**63))
def test_without_a_limit_any_age_passes(age_ns: int) -> None:
    check_age(age_ns, None)
    check_in_time(age_ns, None, "ready")
