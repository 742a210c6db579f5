from pathlib import Path
from typing import Any

import pytest

from saccade.export.quantisation.request import LowerRequest
from saccade.proto.errors import ExportError


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": 0.0}, "above 0 and at most 1, found 0"),
        ({"budget": float("nan")}, "above 0 and at most 1, found nan"),
        ({"rounding": "up"}, "a rounding of nearest, gptq, rsq, found 'up'"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        LowerRequest(bundle=Path("a"), out=Path("b"), lowerings=("int4",), frames=Path("c"), **wrong)
