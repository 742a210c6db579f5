"""Names of weights in OpenVLA-OFT checkpoints: how they are written differently, and which nobody needs."""

from __future__ import annotations

from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.loading import prismatic
from saccade.export.loading.key_rules import KeyRules


def key_rules(config: OftConfig) -> KeyRules:
    """Return the rules of OpenVLA's towers; the language model's head is passed over: the action head replaces it."""
    return prismatic.key_rules(config.towers, KeyRules(unused=(r"^language_model\.lm_head\.",)))
