"""Quantised checkpoints: numbers that mean something only with the scales of the method that made them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from saccade.export.loading.checkpoint_folder import CONFIG_NAME, CheckpointFolder
from saccade.export.loading.shards import has_weights

ADVICE = "take the checkpoint before quantisation"
"""What to do with any of them."""
_FIELDS = ("quantization_config", "compression_config", "quantization")
"""Objects of ``config.json``: transformers', compressed-tensors' old one, MLX's."""
_FILES = {
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
    "hf_quant_config.json": "ModelOpt",
}
"""Files of tools that wrote nothing into ``config.json``."""
_CARD = "README.md"
_BASE = re.compile(r"^base_model:\s*(?:\n?\s*-\s*)?[\"']?([\w.-]+/[\w.-]+)", re.MULTILINE)


def quantised(folder: CheckpointFolder) -> str | None:
    """Recognise a quantised checkpoint by its configuration or its files."""
    found = next(_signs(folder), None)
    if found is None:
        return None
    card = folder / _CARD
    named = _BASE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    source = f" ({named[1]}, {_CARD} says)" if named else ""
    return (
        f"expected weights as they were trained, in float32, bfloat16 or float16, found quantised ones ({found}), "
        f"which are not read here; {ADVICE}{source}."
    )


def _signs(folder: CheckpointFolder) -> Iterator[str]:
    config = folder.config if folder.has(CONFIG_NAME) else {}
    text = config.get("text_config")
    for place, values in (("", config), ("text_config: ", text if isinstance(text, dict) else {})):
        for name in _FIELDS:
            settings = values.get(name)
            if isinstance(settings, Mapping) and settings:
                yield f"{CONFIG_NAME}: {place}{name}: {_method(settings, name)}"
    for name, method in _FILES.items():
        if folder.has(name):
            yield f"{name}: {method}"
    packed = [entry.name for entry in folder if entry.suffix == ".gguf"]
    if packed and not has_weights(folder.path):
        yield packed[0]


def _method(settings: Mapping[str, Any], name: str) -> str:
    """Return the method and the bits of a weight, in words."""
    method = settings.get("quant_method")
    if not isinstance(method, str):
        is_bytes = any(key.startswith(("load_in_", "bnb_")) for key in settings)
        method = (
            "bitsandbytes" if is_bytes else "MLX" if name == "quantization" else "a method without a name"
        )
    bits = settings.get("bits", settings.get("w_bit"))
    for width in (4, 8):
        bits = width if settings.get(f"load_in_{width}bit") is True else bits
    return f"{method}, {bits} bits" if isinstance(bits, int) else method
