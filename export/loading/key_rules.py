"""How weights of published checkpoints come to our names: data, one table for each family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Renames = tuple[tuple[str, str], ...]
"""Regular expression and replacement, applied one after the other."""


class Part(NamedTuple):
    """Place of a stored weight: our name, and which part of it."""

    name: str
    number: int


@dataclass(frozen=True, kw_only=True)
class KeyRules:
    """The table of one family.

    Args:
        rename: What turns a stored name into ours. A result that ends in ``#n`` is part n of a weight; parts are joined
            along the first axis (q, k and v of a fused projection).
        unused: Regular expressions: our names of weights that belong to the published model, not to what is exported.
        one_plus: Regular expressions: our names of norm weights that the model uses as ``1 + w`` (Gemma).
        ties: Our name to the name whose weight it shares where it is not stored itself.
    """

    rename: Renames = ()
    unused: tuple[str, ...] = ()
    one_plus: tuple[str, ...] = ()
    ties: Mapping[str, str] = field(default_factory=dict)

    def ours(self, stored: str) -> Part:
        """Return our name of a stored weight; a data-parallel prefix is dropped first."""
        name = re.sub(r"^(module\.)+", "", stored)
        for pattern, replacement in self.rename:
            name = re.sub(pattern, replacement, name)
        name, _, number = name.partition("#")
        return Part(name, int(number or 0))

    def is_unused(self, name: str) -> bool:
        """Whether nobody here needs the weight with this name of ours."""
        return any(re.search(pattern, name) for pattern in (*_COMPUTED, *self.unused))

    def is_one_plus(self, name: str) -> bool:
        """Whether 1 is added to the weight with this name of ours."""
        return any(re.search(pattern, name) for pattern in self.one_plus)


_COMPUTED = (r"rotary_emb\.(original_)?inv_freq$", r"position_ids$")
"""Tables that older versions of transformers stored although they follow from the configuration."""


def numbered(prefix: str, first: int, end: int) -> tuple[str, ...]:
    """Return the rule for layers or blocks ``first`` to ``end - 1`` under ``prefix``; none if there are none."""
    if first >= end:
        return ()
    return (rf"^{re.escape(prefix)}\.({'|'.join(map(str, range(first, end)))})\.",)
