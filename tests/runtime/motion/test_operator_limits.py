import pytest

from saccade.proto.errors import ManifestError
from saccade.runtime.motion.operator_limits import OperatorLimits


def test_what_is_left_out_is_the_bundles() -> None:
    found = OperatorLimits.from_text('{"velocity": [0.5, null], "high": [0.25, 1]}')
    assert found == OperatorLimits(velocity=(0.5, None), high=(0.25, 1.0))


@pytest.mark.parametrize("text", ['{"speed": [1]}', '{"velocity": ["1"]}', "[]", '{"velocity": [NaN]}'])
def test_what_is_unknown_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        OperatorLimits.from_text(text)
