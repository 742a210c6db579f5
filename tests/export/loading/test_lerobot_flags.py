"""lerobot's early switches for ALOHA are refused where they are on, and only there."""

from __future__ import annotations

import pytest

from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.lerobot_flags import ALOHA_FLAGS, refuse_aloha_flags
from saccade.proto.errors import CheckpointError


@pytest.mark.parametrize("name", ALOHA_FLAGS)
def test_a_switch_that_is_on_is_refused(name: str) -> None:
    refuse_aloha_flags(JsonFields({name: False}, "config.json"))
    refuse_aloha_flags(JsonFields({name: None}, "config.json"))
    with pytest.raises(CheckpointError, match=f"config.json: {name}: expected False, found True: lerobot"):
        refuse_aloha_flags(JsonFields({name: True}, "config.json"))
    with pytest.raises(CheckpointError, match=f"{name}: expected bool, found 'yes'"):
        refuse_aloha_flags(JsonFields({name: "yes"}, "config.json"))
