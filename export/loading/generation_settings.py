"""``generation_config.json``: how a checkpoint wants its answers generated, followed or refused, never ignored.

Source:
    transformers 5, ``GenerationConfig`` and ``_get_logits_processor``. What it takes where a field is missing is in
    ``_get_default_generation_params``: of those that count here, a ``top_k`` of 50 where tokens are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saccade.export.loading.checkpoint_folder import CONFIG_NAME, CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError, ManifestError
from saccade.proto.token_choice import TokenChoice

NAME = "generation_config.json"
_DEFAULTS: Mapping[str, object] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
}
_REFUSED: Mapping[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "guidance_scale": (1,),
    "sequence_bias": (),
    "constraints": (),
    "force_words_ids": (),
    "forced_decoder_ids": (),
    "stop_strings": (),
    "min_length": (0,),
    "encoder_repetition_penalty": (1,),  # of the prompt's tokens, where there is no encoder
    "encoder_no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "watermarking_config": (),
    "token_healing": (False,),
    "assistant_ensemble_weight": (),
}
"""Settings that change what is said and that nothing here does; with what they may have, beside null."""
_REFUSED_DRAWS: Mapping[str, tuple[object, ...]] = {
    "min_p": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "top_h": (),
}
"""The same of settings that count only where tokens are drawn."""
_PICTURE_IDS = ("image_token_id", "image_token_index"), ("video_token_id", "video_token_index")


def read_token_choice(folder: CheckpointFolder, vocab_size: int) -> TokenChoice:
    """Read the settings of a checkpoint; one without the file keeps them in ``config.json``, if anywhere.

    ``max_length`` and ``max_new_tokens`` are not read: the room for an answer is given to the export, as it would be to
    ``generate``. ``forced_bos_token_id`` is not read either: it forces the first token of a sequence, which is the
    prompt's.

    Args:
        folder: The checkpoint.
        vocab_size: How many tokens there are to choose from.

    Raises:
        CheckpointError: A setting asks for what nothing here does, or is out of range.
    """
    name = NAME if folder.has(NAME) else CONFIG_NAME
    stored = folder.read(name) if name == NAME else _of_config(folder.config)
    fields = JsonFields(stored, name, _DEFAULTS)
    draws = fields.take("do_sample", bool)
    for setting, accepted in {**_REFUSED, **(_REFUSED_DRAWS if draws else {})}.items():
        _refuse(stored, name, setting, accepted)
    try:
        choice = TokenChoice(
            temperature=fields.take("temperature", float) if draws else 0.0,
            top_k=fields.take("top_k", int) if draws else 0,
            top_p=fields.take("top_p", float) if draws else 1.0,
            repetition_penalty=fields.take("repetition_penalty", float),
            no_repeat_ngram=fields.take("no_repeat_ngram_size", int),
            banned=fields.rows("bad_words_ids", int) if fields.has("bad_words_ids") else (),
            suppressed=_ids(fields, stored, "suppress_tokens"),
            suppressed_first=_ids(fields, stored, "begin_suppress_tokens"),
            min_new_tokens=fields.take("min_new_tokens", int),
            forced_last=_ids(fields, stored, "forced_eos_token_id"),
        )
    except ManifestError as error:
        raise CheckpointError(f"{name}: {error}") from error
    outside = sorted({token for token in choice.ids if token >= vocab_size})
    if outside:
        raise CheckpointError(f"{name}: expected token ids below {vocab_size}, found {outside}.")
    return choice


def _of_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a configuration: those of its language model count where it has none of its own."""
    text = config.get("text_config")
    own = {name: value for name, value in config.items() if value is not None}
    return {**(text if isinstance(text, Mapping) else {}), **own}


def counts_prompt(choice: TokenChoice) -> bool:
    """Whether tokens of the prompt change what may come."""
    return choice.repetition_penalty != 1 or choice.no_repeat_ngram > 0


def picture_id(folder: CheckpointFolder, *, is_video: bool) -> int:
    """Return the token that stands for a picture, or a frame of a video, where transformers counts a prompt's tokens.

    Raises:
        CheckpointError: ``config.json`` does not say it.
    """
    names = _PICTURE_IDS[is_video]
    found = next((folder.config[name] for name in names if isinstance(folder.config.get(name), int)), None)
    if found is None:
        raise CheckpointError(
            f"{NAME}: expected no repetition_penalty and no no_repeat_ngram_size, found one: they count the prompt's "
            f"tokens, and {CONFIG_NAME} does not say which stands for a picture ({' or '.join(names)}); take it out of "
            "a copy of the file if answers without it will do."
        )
    return int(found)


def _refuse(stored: Mapping[str, Any], name: str, setting: str, accepted: Sequence[object]) -> None:
    value = stored.get(setting)
    if value in (None, [], {}, *accepted):
        return
    raise CheckpointError(
        f"{name}: {setting}: expected {accepted[0] if accepted else 'none'}, found {value!r:.80}: nothing here "
        "generates so; take it out of a copy of the file if answers without it will do."
    )


def _ids(fields: JsonFields, stored: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Return one token id or several."""
    if not fields.has(name):
        return ()
    return fields.items(name, int) if isinstance(stored[name], list) else (fields.take(name, int),)
