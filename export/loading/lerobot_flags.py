"""Switches of lerobot's early policies for ALOHA: what they do around the model is in no weight."""

from __future__ import annotations

from collections.abc import Mapping

from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError

ALOHA_FLAGS: Mapping[str, str] = {
    "adapt_to_pi_aloha": (
        "lerobot then flips joints and rescales grippers of ALOHA before the model and back behind it; do both in your "
        "controller, as openpi's aloha_policy does, and export a copy whose config.json has the switch off"
    ),
    "use_delta_joint_actions_aloha": (
        "lerobot has the switch and never ran it; train with relative actions (relative_actions_processor) instead"
    ),
}
"""Name of the switch to what it does, and what to do."""


def refuse_aloha_flags(fields: JsonFields) -> None:
    """Refuse a policy that converts ALOHA's numbers itself.

    Raises:
        CheckpointError: A switch is on; the model would get, and give, numbers that mean something else.
    """
    for name, advice in ALOHA_FLAGS.items():
        if fields.has(name) and fields.take(name, bool):
            raise CheckpointError(f"config.json: {name}: expected False, found True: {advice}.")
