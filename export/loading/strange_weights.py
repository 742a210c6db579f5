"""What weights are that a model does not have, by their names: adapters, quantised numbers, another model's."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LORA = re.compile(r"lora_|\.base_layer\.|\.modules_to_save\.|magnitude_vector")
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|scales|SCB|weight_format|weight_packed|weight_scale(_inv)?|input_scale|absmax|quant_map"
    r"|nested_absmax|quant_state\..*|weight\.(absmax|quant_map|quant_state.*|nested_.*))$"
)


def strangeness(missing: Sequence[str], leftover: Sequence[str]) -> str:
    """Return what the names tell, and what to do; nothing blames ``config.json``, which the names cannot judge.

    Args:
        missing: Weights that the configuration describes and no file has, by our names.
        leftover: Weights that the files have and the configuration does not describe, by their stored names.
    """
    if any(_LORA.search(name) for name in leftover):
        return (
            "those of an adapter are beside the weights that they change: merge them where the model was trained "
            "(peft: merge_and_unload) and take what comes out."
        )
    if any(_QUANTISED.search(name) for name in leftover):
        return "quantised weights are not read here, take the checkpoint before quantisation."
    if missing and leftover:
        return (
            "these are weights of another model, or of another version of its code, than config.json is of: copy both "
            "from one checkpoint."
        )
    if missing:
        return "copy the weight files again, all of them, from the checkpoint that config.json is from."
    return (
        "the model has parts that this family does not have: another model, which builds on it and which nothing here "
        "runs; take one of the family itself."
    )
