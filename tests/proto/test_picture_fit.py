"""A picture's size is parsed as cameras name it."""

from __future__ import annotations

import pytest

from saccade.proto.errors import InputError
from saccade.proto.picture_fit import parse_picture_size


def test_width_comes_first() -> None:
    assert parse_picture_size("640x480") == (480, 640)


@pytest.mark.parametrize("text", ["", "640", "640x", "0x480", "640x480x3", "640 x 480", "-1x5", "12345x5"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected width and height .* such as 640x480, found "):
        parse_picture_size(text)
