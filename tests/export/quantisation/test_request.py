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
        (
            {"rotate": True, "lowerings": ("gpu-fp16",)},
            "int4 or int3 among the lowerings to rotate, found gpu-fp16: leave --rotate out",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        LowerRequest(bundle=Path("a"), out=Path("b"), frames=Path("c"), **{"lowerings": ("int4",), **wrong})
