"""Reads checkpoints of π0 and π0.5, as lerobot, transformers and openpi's conversion write them.

config.json  embodiment.json  model.safetensors (or shards with an index)  tokenizer.json, and the statistics:
lerobot's processors (policy_preprocessor.json ...), transformers' processor_config.json, or openpi's norm_stats.json.

lerobot names cameras and says their sizes, and the graph resizes as its policy does. transformers' processor resizes
with antialiasing, which is the host's to do: pictures come in the tower's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tokenizers import Tokenizer

from saccade.export.acting.flow import check_against_features, flow_checkpoint, load_flow_model, own_template
from saccade.export.checkpoint import TOKENIZER_NAME, Checkpoint, check_embodiment, check_tokenizer
from saccade.export.embodiment import Embodiment, read_embodiment
from saccade.export.families.deployment import Deployment
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi_checkpoint import PiConfig
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.lerobot_features import read_features
from saccade.export.loading.lerobot_statistics import read_relative, read_statistics
from saccade.export.loading.pi_statistics import read_openpi_statistics, read_processor_statistics
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec, TextStep
from saccade.proto.statistics import Statistics

BOS = "<bos>"
_CLEANED = (TextStep.SPACES_FOR_UNDERSCORES, TextStep.ONE_LINE)


class PiPrompt(NamedTuple):
    """How a family's prompt is written.

    Args:
        template: The text.
        tokens: To which the published processors pad it.
        state_bins: Of the state in words; 0 = it is not in the prompt.
        is_always_cleaned: Underscores and line breaks go, whoever wrote the checkpoint; else only in openpi's.
    """

    template: str
    tokens: int
    state_bins: int
    is_always_cleaned: bool


def load_pi(path: Path, family: ModuleType, prompt: PiPrompt) -> Checkpoint[FlowFamily]:
    """Read a checkpoint.

    Args:
        path: Its folder.
        family: Module of the family: ``MODEL_TYPE``, ``read_config``, ``key_rules``, ``build``.
        prompt: How its prompt is written.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong, or the embodiment does not fit.
    """
    stored, embodiment = read_object(path, "config.json"), read_embodiment(path)
    template = own_template(embodiment, prompt.template)
    size = embodiment.image_size
    deployment = Deployment(
        views=len(embodiment.views),
        image_size=(size[0], size[1]) if len(size) == 2 else None,
        max_text_tokens=JsonFields(stored, "config.json", {"tokenizer_max_length": prompt.tokens}).take(
            "tokenizer_max_length", int
        ),
        state_dim=embodiment.proprio.dim,
        action_dim=embodiment.action.dim,
    )
    is_lerobot, is_openpi = "type" in stored, "action_horizon" in stored
    if is_lerobot:
        features = read_features(path)
        camera = check_against_features(embodiment, features, embodiment.action.chunk)
        deployment = replace(deployment, image_size=camera)
    config: PiConfig = family.read_config(path, deployment)
    _check_dims(embodiment, config)
    statistics = _statistics(path, config, is_lerobot=is_lerobot, is_openpi=is_openpi, family=family)
    if is_lerobot:
        names = read_relative(path, embodiment.action.dim)
        embodiment = replace(embodiment, action=replace(embodiment.action, relative=names))
    elif not is_openpi and config.camera != (config.tower.image_size,) * 2:
        raise CheckpointError(
            f"embodiment.json: image_size: expected none, found {list(size)}: transformers' processor resizes with "
            f"antialiasing, so bring pictures to {config.tower.image_size} x {config.tower.image_size} before they "
            "come here."
        )
    tokenizer = check_tokenizer(path, config.prefix.vocab_size)
    is_cleaned = prompt.is_always_cleaned or is_openpi
    return flow_checkpoint(
        path,
        family.MODEL_TYPE,
        load_flow_model(path, family.build, config, family.key_rules(config)),
        embodiment,
        statistics,
        tokenizer,
        InstructionSpec(
            TOKENIZER_NAME,
            template,
            config.max_text_tokens,
            pad_id=0,
            before=(_bos(tokenizer),),
            steps=_CLEANED if is_cleaned else (),
            state_bins=prompt.state_bins,
        ),
    )


def _check_dims(embodiment: Embodiment, config: PiConfig) -> None:
    check_embodiment(
        embodiment,
        views=config.views,
        proprio_dim=config.state_dim,
        chunk=config.flow.chunk,
        action_dim=config.action_dim,
    )


def _statistics(
    path: Path, config: PiConfig, *, is_lerobot: bool, is_openpi: bool, family: ModuleType
) -> Statistics:
    dims: Mapping[str, int] = {"state_dim": config.state_dim, "action_dim": config.action_dim}
    if is_lerobot:
        return read_statistics(path, **dims)
    if is_openpi:
        return read_openpi_statistics(path, is_quantile=family.MODEL_TYPE == "pi05", **dims)
    return read_processor_statistics(path, **dims)


def _bos(tokenizer: Path) -> int:
    """Return the token that every prompt begins with."""
    found = Tokenizer.from_file(str(tokenizer)).token_to_id(BOS)
    if found is None:
        raise CheckpointError(
            f"{TOKENIZER_NAME}: expected the token {BOS!r}, which begins every prompt, found none; copy PaliGemma's "
            "(google/paligemma-3b-pt-224)."
        )
    return int(found)
