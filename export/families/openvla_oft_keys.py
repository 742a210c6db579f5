"""Names of weights in OpenVLA-OFT checkpoints: how they are written differently, and which nobody needs."""

from __future__ import annotations

import re

from saccade.export.families.openvla_oft_config import OftConfig
from saccade.export.loading.key_rules import KeyRules, numbered

TOWERS = ("featurizer", "fused_featurizer")
_UNUSED = (
    r"^language_model\.lm_head\.",  # the action head replaces it
    r"^vision_backbone\.\w+\.attn_pool\.",  # SigLIP's pooling; patches are read before it
)


def key_rules(config: OftConfig) -> KeyRules:
    """Return the rules: LayerScale is called ``scale_factor``; blocks after the one that is read are passed over."""
    unused: tuple[str, ...] = _UNUSED
    for name, tower in zip(TOWERS, config.towers, strict=False):
        path = f"vision_backbone.{name}"
        unused += numbered(f"{path}.blocks", tower.blocks, tower.depth)
        if not tower.final_norm:
            unused += (rf"^{re.escape(path)}\.norm\.",)
    return KeyRules(rename=((r"(\.ls[12])\.gamma$", r"\1.scale_factor"),), unused=unused)
