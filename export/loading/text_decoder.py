"""The language model's part of ``config.json``: which switches of our decoder a published text model sets.

What a file leaves out is what the class of transformers that wrote it assumes; the tables are frozen here, and a test
compares them with the installed classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saccade.export.loading.json_fields import JsonFields
from saccade.export.models.decoder import DecoderConfig
from saccade.proto.errors import CheckpointError


@dataclass(frozen=True)
class _TextModel:
    """A text model of transformers.

    Args:
        defaults: Values that the model's configuration class assumes where a field is missing.
        switches: Settings of :class:`DecoderConfig` that this model fixes.
    """

    defaults: Mapping[str, object]
    switches: Mapping[str, object] = field(default_factory=dict)


_LLAMA: Mapping[str, object] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "vocab_size": 32000,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
_QWEN2 = {
    **_LLAMA,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "attention_bias": True,
    "use_sliding_window": False,
}
_QWEN2_VL = {
    **_QWEN2,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "vocab_size": 152064,
}
_MISTRAL = {
    **_LLAMA,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "sliding_window": 4096,
}
_GEMMA = {
    **_LLAMA,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "vocab_size": 256000,
    "tie_word_embeddings": True,
}
_QWEN3_VL = {**_QWEN2, "head_dim": 128, "rope_theta": 5e5, "attention_bias": False}

TEXT_MODELS: Mapping[str, _TextModel] = {
    "llama": _TextModel(_LLAMA),
    "mistral": _TextModel(_MISTRAL),
    "gemma": _TextModel(_GEMMA),
    "qwen2": _TextModel(_QWEN2),
    "qwen2_vl_text": _TextModel(_QWEN2_VL),
    "qwen2_5_vl_text": _TextModel(_QWEN2_VL),
    "qwen3_vl_text": _TextModel(_QWEN3_VL, {"qk_norm": True}),
}
"""Text models by ``model_type``."""
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}


@dataclass(frozen=True)
class TextModel:
    """What the configuration of a language model says.

    Args:
        decoder: Switches of our decoder.
        is_tied: The language-model head shares the embedding table.
        most_tokens: A longer sequence would need sliding windows, which nothing here has; None = any length.
    """

    decoder: DecoderConfig
    is_tied: bool
    most_tokens: int | None


def text_fields(parent: JsonFields, name: str, model_type: str) -> JsonFields:
    """Return the object ``name``, missing fields as transformers' class for ``model_type`` has them."""
    if model_type not in TEXT_MODELS:
        raise CheckpointError(
            f"{name}: model_type: expected one of {', '.join(TEXT_MODELS)}, found {model_type!r}."
        )
    return parent.child(name, TEXT_MODELS[model_type].defaults)


def read_text_model(fields: JsonFields, model_type: str, *, causal: bool = True) -> TextModel:
    """Read a text configuration.

    Args:
        fields: The text configuration: from :func:`text_fields`, or the whole file where a model keeps it on top.
        model_type: A key of ``TEXT_MODELS``.
        causal: A token sees itself and those before it; False: every token.

    Raises:
        CheckpointError: A field is of the wrong kind, or a setting would change the model and is not known here.
    """
    fields.expect("mlp_bias", (False,))
    activation = fields.take("hidden_act", str)
    if activation not in _ACTIVATIONS:
        raise CheckpointError(f"hidden_act: expected one of {', '.join(_ACTIVATIONS)}, found {activation!r}.")
    width, heads = fields.take("hidden_size", int), fields.take("num_attention_heads", int)
    model = TEXT_MODELS[model_type]
    decoder = DecoderConfig(
        width=width,
        layers=fields.take("num_hidden_layers", int),
        heads=heads,
        kv_heads=fields.take("num_key_value_heads", int) if fields.knows("num_key_value_heads") else heads,
        head_dim=fields.take("head_dim", int) if fields.knows("head_dim") else width // heads,
        mlp_dim=fields.take("intermediate_size", int),
        vocab_size=fields.take("vocab_size", int),
        norm_eps=fields.take("rms_norm_eps", float),
        rope_theta=_rope_theta(fields),
        qkv_bias=fields.take("attention_bias", bool),
        activation=_ACTIVATIONS[activation],
        causal=causal,
        **model.switches,  # type: ignore[arg-type]
    )
    slides = fields.knows("sliding_window")
    if slides and fields.knows("use_sliding_window"):
        slides = fields.take("use_sliding_window", bool)
    window = fields.take("sliding_window", int) if slides else None
    return TextModel(decoder, fields.take("tie_word_embeddings", bool), window)


def _rope_theta(fields: JsonFields) -> float:
    """Return the rotary base: transformers 5 keeps it in ``rope_parameters``, older versions on top."""
    for name in ("rope_parameters", "rope_scaling"):
        if fields.has(name):
            rope = fields.child(name, {})
            for kind in ("rope_type", "type"):
                rope.expect(kind, ("default", "mrope"))
            if rope.has("rope_theta"):
                return rope.take("rope_theta", float)
    return fields.take("rope_theta", float)
