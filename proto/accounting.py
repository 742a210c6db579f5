"""``receipts/accounting.json``: what each profile of a bundle costs, part by part; export writes, the robot reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from saccade.proto.errors import BundleIntegrityError
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.roofline import VISION, Part

ACCOUNTING = "accounting"
ACCOUNTING_RECEIPT = f"receipts/{ACCOUNTING}.json"
EXPORT_RECEIPT = "receipts/export.json"
"""Has the number of parameters beside times, sizes and versions."""
VALUE_BYTES = 4
"""Bytes of a number in the receipt: models are exported in float32."""
_STORED = {VISION: "vision_tower"}
"""Parts whose name in the file is another."""
_EARLIER = {"expert": "denoise", "vision": VISION}
"""What earlier versions called a part."""


@dataclass(frozen=True)
class Account:
    """What one profile costs: a control step, an answer, or a look at the views.

    Args:
        parts: Parts of the model that run, in order.
        visual_by_layer: How many visual tokens each decoder layer computes.
        visual_tokens: How many visual tokens an observation has.
        cache_values: How many numbers of keys and values a cache of all decoder layers holds.
    """

    parts: tuple[Part, ...]
    visual_by_layer: tuple[int, ...]
    visual_tokens: int
    cache_values: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all parts together."""
        return sum(part.macs for part in self.parts)

    @property
    def mean_visual_tokens(self) -> float:
        """Mean number of visual tokens over the decoder layers."""
        return sum(self.visual_by_layer) / len(self.visual_by_layer)

    def part(self, name: str) -> Part:
        """Return the part of a name."""
        return next(part for part in self.parts if part.name == name)

    def plus(self, part: Part) -> Account:
        """Return the account with one more part."""
        return replace(self, parts=(*self.parts, part))


def accounts_to_json(accounts: Mapping[str, Account]) -> dict[str, Any]:
    """Return the content of the accounting receipt.

    Args:
        accounts: Account of each profile by its name, ``full`` among them.
    """
    full = accounts[FULL_PROFILE].macs
    return {
        name: {
            "stages": {_STORED.get(part.name, part.name): _part_to_json(part) for part in account.parts},
            "visual_by_layer": list(account.visual_by_layer),
            "mean_visual_tokens": account.mean_visual_tokens,
            "mean_keep_ratio": account.mean_visual_tokens / account.visual_tokens,
            "kv_bytes": VALUE_BYTES * account.cache_values,
            "macs": account.macs,
            "ratio_to_full": account.macs / full,
        }
        for name, account in accounts.items()
    }


def accounts_from_json(value: object, visual_tokens: int) -> dict[str, Account]:
    """Read the content of an accounting receipt, of this version or an earlier one.

    Args:
        value: Parsed JSON of the receipt.
        visual_tokens: How many visual tokens an observation has, from the manifest.

    Raises:
        BundleIntegrityError: The receipt is not what :func:`accounts_to_json` writes.
    """
    if not isinstance(value, Mapping):
        raise broken("an object with an entry for each profile", value)
    return {str(name): _account(account, visual_tokens) for name, account in value.items()}


def broken(expected: str, found: object) -> BundleIntegrityError:
    """Return the error that says what a receipt should have held."""
    return BundleIntegrityError(
        f"{ACCOUNTING_RECEIPT}: expected {expected}, found {found!r:.80}; export the bundle again."
    )


def _part_to_json(part: Part) -> dict[str, int]:
    stored = {"macs": part.macs, "weight_bytes": VALUE_BYTES * part.weights, "passes": part.passes}
    return {**stored, "kv_bytes": VALUE_BYTES * part.kv_values} if part.kv_values else stored


def _account(account: Any, visual_tokens: int) -> Account:
    try:
        parts = tuple(_part(str(name), stage) for name, stage in account["stages"].items())
        by_layer = tuple(int(count) for count in account["visual_by_layer"])
        cached = int(account.get("kv_bytes", 0)) // VALUE_BYTES
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken("stages with macs and weight_bytes, and visual_by_layer", error) from error
    return Account(parts, by_layer, visual_tokens, cached)


def _part(name: str, stage: Mapping[str, Any]) -> Part:
    ours = {stored: name for name, stored in _STORED.items()}
    return Part(
        _EARLIER.get(name, ours.get(name, name)),
        macs=int(stage["macs"]),
        weights=int(stage["weight_bytes"]) // VALUE_BYTES,
        passes=int(stage.get("passes", 1)),
        kv_values=int(stage.get("kv_bytes", 0)) // VALUE_BYTES,
    )
