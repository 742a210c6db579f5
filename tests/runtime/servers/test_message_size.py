"""A message may be as large as the bundles need, and no larger than there are any."""

from __future__ import annotations

import pytest

from saccade.proto import errors
from saccade.runtime.servers.message_size import message_bytes


def test_a_robot_whose_observation_fits_into_no_message_is_refused_at_start() -> None:
    four_k = 2160 * 3840 * 3
    assert 4 * four_k < message_bytes(4 * four_k, 0) < 5 * four_k
    assert message_bytes(0, 2 * four_k) > 2 * four_k
    for sizes in ((100 * four_k, 0), (0, 100 * four_k)):
        with pytest.raises(errors.ServeError, match=r"at most 2146435071 bytes, .* fewer or smaller"):
            message_bytes(*sizes)
