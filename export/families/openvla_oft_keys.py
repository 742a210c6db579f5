"""Names of weights in OpenVLA-OFT checkpoints: how they are written differently, and which nobody needs."""

from __future__ import annotations

import re

from saccade.export.families.openvla_oft_config import OftConfig

_UNUSED = re.compile(
    r"rotary_emb\.inv_freq$"  # computed
    r"|position_ids$"  # an input of ours
    r"|^language_model\.lm_head\."  # the action head replaces it
    r"|^vision_backbone\.\w+\.attn_pool\."  # SigLIP's pooling; patches are read before it
)
_TOWER_BLOCK = re.compile(r"^vision_backbone\.(featurizer|fused_featurizer)\.blocks\.(\d+)\.")
_TOWER_NORM = re.compile(r"^vision_backbone\.(featurizer|fused_featurizer)\.norm\.")
_TOWERS = ("featurizer", "fused_featurizer")


def canonical_key(key: str) -> str:
    """Return our name of a stored weight: without a data-parallel prefix, LayerScale called ``scale_factor``."""
    return re.sub(r"(\.ls[12])\.gamma$", r"\1.scale_factor", re.sub(r"^(module\.)+", "", key))


def is_unused(key: str, config: OftConfig) -> bool:
    """Whether a stored weight (canonical name) belongs to the published model but not to its control step."""
    if _UNUSED.search(key):
        return True
    block, norm = _TOWER_BLOCK.match(key), _TOWER_NORM.match(key)
    match = block or norm
    if match is None or _TOWERS.index(match[1]) >= len(config.towers):
        return False
    tower = config.towers[_TOWERS.index(match[1])]
    if block:
        return tower.blocks <= int(block[2]) < tower.depth
    return not tower.final_norm
