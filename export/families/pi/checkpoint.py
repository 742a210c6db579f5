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

from saccade.export.families.checkpoint import TOKENIZER_NAME, Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, read_embodiment
from saccade.export.families.flow_checkpoint import (
    flow_checkpoint,
    load_flow_model,
    own_template,
    picture_size,
)
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi.config import PiConfig
from saccade.export.families.pi.statistics import read_openpi_statistics, read_processor_statistics
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.lerobot_features import LerobotFeatures, read_features
from saccade.export.loading.lerobot_statistics import read_relative, read_statistics
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


class PiSource(NamedTuple):
    """Who wrote a checkpoint.

    Args:
        features: What lerobot says of the robot; None = it was not lerobot.
        is_openpi: openpi's conversion did; else, without features, transformers did.
    """

    features: LerobotFeatures | None
    is_openpi: bool

    @classmethod
    def of(cls, path: Path) -> PiSource:
        """Tell it by ``config.json``."""
        stored = read_object(path, "config.json")
        return cls(read_features(path) if "type" in stored else None, "action_horizon" in stored)


def load_pi(path: Path, family: ModuleType, prompt: PiPrompt) -> Checkpoint[FlowFamily]:
    """Read a checkpoint.

    Args:
        path: Its folder.
        family: Module of the family: ``MODEL_TYPE``, ``read_config``, ``key_rules``, ``build``.
        prompt: How its prompt is written.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong, or the embodiment does not fit.
    """
    source = PiSource.of(path)
    embodiment = read_embodiment(path, "" if source.features is None else source.features.known)
    template = own_template(embodiment, prompt.template)
    config: PiConfig = family.read_config(path, _deployment(path, embodiment, source, prompt.tokens))
    _check_fit(embodiment, config, source)
    statistics = _statistics(path, config, source, is_quantile=prompt.state_bins > 0)
    if source.features is not None:
        relative = read_relative(path, config.action_dim)
        embodiment = replace(embodiment, action=replace(embodiment.action, relative=relative))
    tokenizer = check_tokenizer(path, config.prefix.vocab_size)
    is_cleaned = prompt.is_always_cleaned or source.is_openpi
    instruction = InstructionSpec(
        TOKENIZER_NAME,
        template,
        config.max_text_tokens,
        pad_id=0,
        before=(_bos(tokenizer),),
        steps=_CLEANED if is_cleaned else (),
        state_bins=prompt.state_bins,
    )
    model = load_flow_model(path, family.build, config, family.key_rules(config))
    return flow_checkpoint(path, family.MODEL_TYPE, model, embodiment, statistics, tokenizer, instruction)


def _deployment(path: Path, embodiment: Embodiment, source: PiSource, tokens: int) -> Deployment:
    """Return what the graphs fix: dimensions, of the embodiment where only it has them, and the prompt's room."""
    size = embodiment.image_size
    camera = (size[0], size[1]) if len(size) == 2 else None
    state_dim, action_dim = embodiment.proprio.dim, embodiment.action.dim
    if source.features is not None:
        camera = picture_size(embodiment, source.features)
        state_dim, action_dim = source.features.state_dim, source.features.action_dim
    fields = JsonFields(read_object(path, "config.json"), "config.json", {"tokenizer_max_length": tokens})
    return Deployment(
        views=len(embodiment.views),
        image_size=camera,
        max_text_tokens=fields.take("tokenizer_max_length", int),
        state_dim=state_dim,
        action_dim=action_dim,
    )


def _check_fit(embodiment: Embodiment, config: PiConfig, source: PiSource) -> None:
    check_embodiment(
        embodiment, proprio_dim=config.state_dim, chunk=config.flow.chunk, action_dim=config.action_dim
    )
    side = config.tower.image_size
    is_transformers = source.features is None and not source.is_openpi
    if is_transformers and config.camera != (side, side):
        raise CheckpointError(
            f"embodiment.json: image_size: expected none, found {list(embodiment.image_size)}: transformers' processor "
            f"resizes with antialiasing, so bring pictures to {side} x {side} before they come here."
        )


def _statistics(path: Path, config: PiConfig, source: PiSource, *, is_quantile: bool) -> Statistics:
    dims: Mapping[str, int] = {"state_dim": config.state_dim, "action_dim": config.action_dim}
    if source.features is not None:
        return read_statistics(path, **dims)
    if source.is_openpi:
        return read_openpi_statistics(path, is_quantile=is_quantile, **dims)
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
