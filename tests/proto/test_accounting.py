"""What an accounting receipt says is read back as it was written; what is broken is named."""

from __future__ import annotations

import json

import pytest

from saccade.proto.accounting import Account, accounts_from_json, accounts_to_json
from saccade.proto.errors import BundleIntegrityError
from saccade.proto.roofline import DECODE, DENOISE, PREFILL, SELECTION, VISION, Part

FULL = Account(
    (Part(VISION, 70, 5), Part(PREFILL, 20, 7), Part(DECODE, 10, 7, passes=3, kv_values=9)), (8, 8), 8, 40
)
PRUNED = Account((Part(VISION, 70, 5), Part(PREFILL, 5, 7)), (8, 2), 8, 25)


def test_what_is_written_is_read_back() -> None:
    accounts = {"full": FULL, "keep25": PRUNED.plus(Part(SELECTION, 1, 0))}
    stored = json.loads(json.dumps(accounts_to_json(accounts), allow_nan=False))
    assert accounts_from_json(stored, visual_tokens=8) == accounts
    assert (stored["full"]["macs"], stored["keep25"]["ratio_to_full"]) == (100, 0.76)
    assert (stored["keep25"]["mean_visual_tokens"], stored["keep25"]["mean_keep_ratio"]) == (5.0, 0.625)
    assert stored["full"]["kv_bytes"] == 160
    assert stored["full"]["stages"]["decode"] == {
        "macs": 10, "weight_bytes": 28, "passes": 3, "kv_bytes": 36,
    }  # fmt: skip
    assert "kv_bytes" not in stored["full"]["stages"]["prefill"]


@pytest.mark.parametrize(
    ("stored", "expected"), [("vision_tower", VISION), ("vision", VISION), ("expert", DENOISE)]
)
def test_names_of_earlier_versions_are_known(stored: str, expected: str) -> None:
    content = {"full": {"stages": {stored: {"macs": 1, "weight_bytes": 4}}, "visual_by_layer": [2]}}
    (part,) = accounts_from_json(content, visual_tokens=2)["full"].parts
    assert part == Part(expected, 1, 1)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"full": 3},
        {"full": {"stages": []}},
        {"full": {"stages": {"vision": {"macs": 1}}, "visual_by_layer": [1]}},
        {"full": {"stages": {"vision": {"macs": "many", "weight_bytes": 4}}, "visual_by_layer": [1]}},
    ],
)
def test_what_is_no_receipt_is_refused(content: object) -> None:
    with pytest.raises(BundleIntegrityError, match=r"accounting\.json: expected .*; export the bundle again"):
        accounts_from_json(content, visual_tokens=1)
