import pytest

from saccade.proto.closed_loop import ClosedLoopReceipt, Outcomes
from saccade.proto.errors import ManifestError
from saccade.proto.strict_json import dump_json, from_json, parse_json


def test_round_trip() -> None:
    receipt = ClosedLoopReceipt(
        {"full": {"push": Outcomes(48, 50)}, "keep25": {}}, "cpu-int8", {"seeds": [0, 50]}
    )
    assert from_json(ClosedLoopReceipt, parse_json(dump_json(receipt))) == receipt


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 2)])
def test_outcomes_that_cannot_be(successes: int, episodes: int) -> None:
    with pytest.raises(ManifestError, match=f"found {successes} of {episodes}"):
        Outcomes(successes, episodes)
