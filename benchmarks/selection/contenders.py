"""The policies that are compared, with which options, and why those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

KEEP_RATIOS = (1.0, 0.5, 0.25, 0.125)
LAYER = 1
"""Decoder layer that a single cut lies before, for all policies alike: VLA-Pruner's 4 of 32 layers, scaled to 8."""
TUNED = Path(__file__).parent / "tuned"
"""Folder of ``POLICY-RATIO.json``: results of ``saccade tune sim/saccade_mini/checkpoint --policy POLICY --keep RATIO
--frames sim/saccade_mini/frames.npz --objective action_error --trials 100``."""
OPENING, OPENED = 3, ("keep25", "keep12.5")
"""Full control steps that every policy gets at the start of an episode when these budgets are run a second time. At
first nobody gets any but what the method itself asks for, which the bundle's manifest says and the table repeats."""
REFERENCES = (f"random at layer {LAYER}", "vla_pruner")
"""Contenders that every row is paired with, besides ``full``."""


@dataclass(frozen=True)
class Contender:
    """One row of the comparison: a policy with options.

    Args:
        label: Name in tables and charts.
        policy: Registry name of the policy.
        options: Options that differ from the defaults.
        is_blind: The policy looks at neither task nor action.
        has_scorer: A view scorer is served beside the bundle.
        is_tuned: Each budget has the options that ``saccade tune`` found for it, see ``TUNED``.
        twin: Label of the fixed selection with the same cut: what this one takes longer is what its choosing costs.
    """

    label: str
    policy: str
    options: Mapping[str, object] = field(default_factory=dict)
    is_blind: bool = False
    has_scorer: bool = False
    is_tuned: bool = False
    twin: str | None = None


def _at_layer(**others: object) -> dict[str, object]:
    return {"insertion_layer": LAYER, **others}


def _single(**others: object) -> dict[str, object]:
    return _at_layer(form="single_pass", **others)


_ENTRY, _INSIDE = "centre crop", f"centre crop at layer {LAYER}"

CONTENDERS = (
    Contender("vla_pruner", "vla_pruner", _at_layer(), twin=_INSIDE),
    Contender("quota", "quota", has_scorer=True, twin=_ENTRY),
    Contender("quota, tuned", "quota", has_scorer=True, is_tuned=True, twin=_ENTRY),
    Contender("quota, flat", "quota", {"form": "flat"}, has_scorer=True, twin=_ENTRY),
    Contender("todre", "todre", is_blind=True, twin=_ENTRY),
    Contender("todre, tuned", "todre", is_blind=True, is_tuned=True, twin=_ENTRY),
    Contender("vflowopt", "vflowopt", is_blind=True),
    Contender("vflowopt, tuned", "vflowopt", is_blind=True, is_tuned=True),
    Contender("fastv", "fastv", _at_layer(), twin=_INSIDE),
    Contender("sparsevlm", "sparsevlm"),
    Contender("divprune", "divprune", is_blind=True, twin=_ENTRY),
    Contender("visionzip", "visionzip", is_blind=True, twin=_ENTRY),
    Contender("vtc_cls", "vtc_cls", is_blind=True, twin=_ENTRY),
    Contender("transprune", "transprune"),
    Contender("zero_tprune", "zero_tprune", is_blind=True),
    Contender("spatten", "spatten"),
    Contender("adp", "adp", twin=_ENTRY),
    Contender("vla_cache", "vla_cache"),
    Contender("foveate", "foveate", _at_layer()),
    Contender(REFERENCES[0], "random_keep", _at_layer(), is_blind=True, twin=_INSIDE),
    Contender("random at entry", "random_keep", {"insertion_layer": 0}, is_blind=True, twin=_ENTRY),
    Contender(_INSIDE, "center_crop", _at_layer(), is_blind=True),
    Contender(_ENTRY, "center_crop", is_blind=True),
)

BASIS = "as it is"
"""Ablation that the others are paired with, besides ``full``."""
ABLATIONS = (
    Contender(BASIS, "vla_pruner", _at_layer()),
    Contender("semantic only", "vla_pruner", _at_layer(relevance="semantic")),
    Contender("action only", "vla_pruner", _at_layer(relevance="action")),
    Contender("fused scores", "vla_pruner", _at_layer(relevance="fused")),
    Contender("union, no filter", "vla_pruner", _at_layer(relevance="unfiltered")),
    Contender("K = 2", "vla_pruner", {"insertion_layer": 2}),
    Contender("K = 3", "vla_pruner", {"insertion_layer": 3}),
    Contender("w = 1", "vla_pruner", _at_layer(window=1)),
    Contender("w = 6", "vla_pruner", _at_layer(window=6)),
    Contender("decay 0.5", "vla_pruner", _at_layer(decay=0.5)),
    Contender("decay 1.0", "vla_pruner", _at_layer(decay=1.0)),
    Contender("history frozen", "vla_pruner", _at_layer(history="frozen")),
    Contender("no history", "vla_pruner", _at_layer(history="off")),
    Contender("three full steps", "vla_pruner", _at_layer(warmup_steps=OPENING)),
    Contender("text rows", "vla_pruner", _at_layer(rows="text")),
    Contender("all rows", "vla_pruner", _at_layer(rows="all")),
    Contender("last row", "vla_pruner", _at_layer(rows="last")),
    Contender("one budget", "vla_pruner", _at_layer(budget="joint")),
    Contender("rows behind the cut", "vla_pruner", _single(action_layers="latter_half")),
    Contender(
        "rows behind the cut, absent = 0", "vla_pruner", _single(action_layers="latter_half", absent="zero")
    ),
    Contender("across steps", "vla_pruner", _at_layer(form="across_steps")),
    Contender(
        "across steps, absent = 0 (paper)", "vla_pruner", _at_layer(form="across_steps", absent="zero")
    ),
    Contender("across steps, refresh every 8", "vla_pruner", _at_layer(form="across_steps", refresh_every=8)),
)
