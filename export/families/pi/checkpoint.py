"""Reads checkpoints of π0 and π0.5, as lerobot, transformers and openpi's conversion write them.

config.json  embodiment.json  model.safetensors (or shards with an index)  tokenizer.json, and the statistics:
lerobot's processors (policy_preprocessor.json ...), transformers' processor_config.json, or openpi's norm_stats.json.

lerobot names cameras and says their sizes, and the graph resizes as its policy does. transformers' processor resizes
with antialiasing, which is the host's to do: pictures come in the tower's size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from saccade.export.families.checkpoint import Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, read_embodiment
from saccade.export.families.flow_checkpoint import (
    flow_checkpoint,
    lerobot_deployment,
    load_flow_model,
    own_template,
    picture_size,
)
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi import pi0, pi05
from saccade.export.families.pi.config import PiConfig, is_openpi
from saccade.export.families.pi.prompt import PI0_PROMPT, PI05_PROMPT, PiPrompt, templates
from saccade.export.families.pi.statistics import read_openpi_statistics, read_processor_statistics
from saccade.export.families.reader import ActingReader, UsualDeployment, stated_name
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.lerobot_features import LerobotFeatures, read_features
from saccade.export.loading.lerobot_statistics import read_relative, read_statistics
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import STATE, InstructionSpec, TextStep
from saccade.proto.statistics import Statistics

_log = logging.getLogger(__name__)
OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""Cameras of openpi's models, in their order (``IMAGE_KEYS``)."""
BOS, PALIGEMMA = "<bos>", "google/paligemma-3b-pt-224"
"""What begins a prompt, and the model whose tokenizer it is."""
_CLEANED = (TextStep.SPACES_FOR_UNDERSCORES, TextStep.ONE_LINE)


class PiSource(NamedTuple):
    """The code that wrote a checkpoint.

    Args:
        features: What lerobot says of the robot; None = it was not lerobot.
        is_openpi: openpi's conversion wrote the checkpoint; else, without features, transformers did.
    """

    features: LerobotFeatures | None
    is_openpi: bool

    @classmethod
    def of(cls, folder: CheckpointFolder) -> PiSource:
        """Tell by ``config.json`` which code wrote a checkpoint."""
        return cls(read_features(folder) if "type" in folder.config else None, is_openpi(folder))


def load_pi(
    folder: CheckpointFolder, reader: ActingReader[PiConfig, Any], prompt: PiPrompt
) -> Checkpoint[FlowFamily]:
    """Read a checkpoint of π0 or π0.5.

    Args:
        folder: The checkpoint that is read.
        reader: Reader of the family.
        prompt: How the family's prompt is written.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong, or the embodiment does not fit.
    """
    source = PiSource.of(folder)
    embodiment = read_embodiment(folder, "" if source.features is None else source.features.known)
    embodiment.check_uncropped(reader.name)
    template = own_template(embodiment, *templates(folder, prompt))
    config = reader.read_config(folder, _deployment(folder, embodiment, source, prompt.tokens))
    _check_fit(embodiment, config, source)
    _check_state(embodiment, reads_state=reader.name == pi0.MODEL_TYPE or STATE in template)
    key = embodiment.statistics_key
    statistics = _statistics(folder, config, source, key, is_quantile=prompt.state_bins > 0)
    if source.features is not None:
        embodiment = embodiment.with_relative(read_relative(folder, config.action_dim))
    tokenizer = check_tokenizer(folder, config.prefix.vocab_size, published=PALIGEMMA)
    is_cleaned = prompt.is_always_cleaned or source.is_openpi
    instruction = InstructionSpec(
        TOKENIZER_NAME,
        template,
        config.max_text_tokens,
        pad_id=0,
        before=(_bos(folder.tokenizer),),
        steps=_CLEANED if is_cleaned else (),
        state_bins=prompt.state_bins if STATE in template else 0,
    )
    model = load_flow_model(reader, folder, config)
    return flow_checkpoint(folder, reader.name, model, embodiment, statistics, tokenizer, instruction)


def _deployment(
    folder: CheckpointFolder, embodiment: Embodiment, source: PiSource, tokens: int
) -> Deployment:
    """Return what the graphs fix: dimensions, of the embodiment where only it has them, and the prompt's room."""
    camera = embodiment.deployment().image_size
    state_dim, action_dim = embodiment.proprio.dim, embodiment.action.dim
    if source.features is not None:
        camera = picture_size(embodiment, source.features)
        state_dim, action_dim = source.features.state_dim, source.features.action_dim
    elif source.is_openpi:
        _check_cameras(embodiment)
    else:
        embodiment.check_unnamed_cameras()
    fields = JsonFields(folder.config, "config.json", {"tokenizer_max_length": tokens})
    return Deployment(
        views=len(embodiment.views),
        image_size=camera,
        max_text_tokens=fields.take("tokenizer_max_length", int),
        state_dim=state_dim,
        action_dim=action_dim,
    )


def _check_cameras(embodiment: Embodiment) -> None:
    """Check names of cameras, where there are any, against those that openpi has in code."""
    names = [embodiment.cameras.get(view, view) for view in embodiment.views]
    named = [name for view, name in zip(embodiment.views, names, strict=True) if view in embodiment.cameras]
    known = [name for name in names if name in OPENPI_CAMERAS]  # a view may be called as openpi calls it
    in_order = [camera for camera in OPENPI_CAMERAS if camera in known]
    if known != in_order or (named and len(known) < len(names)):
        raise CheckpointError(
            f"embodiment.json: cameras: expected for each view one of {', '.join(OPENPI_CAMERAS)}, in this order, "
            f"found {', '.join(names)} for {', '.join(embodiment.views)}."
        )


def _check_state(embodiment: Embodiment, *, reads_state: bool) -> None:
    """Refuse a robot without proprioception where the model reads it; say where nothing does."""
    if reads_state and not embodiment.proprio.dim:
        raise CheckpointError(
            "embodiment.json: proprio: expected the numbers that the model reads, found none."
        )
    if not reads_state and embodiment.proprio.dim and not any(embodiment.action.relative):
        _log.warning(
            "embodiment.json: proprio: nothing reads it, since the prompt has no state; it may be []"
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


def _statistics(
    folder: CheckpointFolder, config: PiConfig, source: PiSource, key: str, *, is_quantile: bool
) -> Statistics:
    dims: Mapping[str, int] = {"state_dim": config.state_dim, "action_dim": config.action_dim}
    if source.features is not None:
        return read_statistics(folder, **dims)
    if source.is_openpi:
        return read_openpi_statistics(folder, key, is_quantile=is_quantile, **dims)
    return read_processor_statistics(folder, **dims)


def _bos(tokenizer: Tokenizer) -> int:
    """Return the token that every prompt begins with."""
    found = tokenizer.token_to_id(BOS)
    if found is None:
        raise CheckpointError(
            f"{TOKENIZER_NAME}: expected the token {BOS!r}, which begins every prompt, found none; copy PaliGemma's "
            f"({PALIGEMMA})."
        )
    return int(found)


def _claims(folder: CheckpointFolder, name: str) -> bool:
    """Tell π0 from π0.5 where openpi wrote neither name: time goes through an MLP of its own in π0.5."""
    if not is_openpi(folder):
        return stated_name(folder) == name
    times = any("time_mlp_in" in weight and "action" not in weight for weight in folder.weights)
    return name == (pi05.MODEL_TYPE if times else pi0.MODEL_TYPE)


PI0: ActingReader[PiConfig, pi0.Pi0] = ActingReader(
    name=pi0.MODEL_TYPE,
    read_config=pi0.read_config,
    build=pi0.build,
    key_rules=pi0.key_rules,
    load=lambda folder: load_pi(folder, PI0, PI0_PROMPT),
    claims=partial(_claims, name=pi0.MODEL_TYPE),
    classes=("PI0ForConditionalGeneration",),
    stated=lerobot_deployment,
    usual=UsualDeployment(views=3, text_tokens=pi0.PROMPT_TOKENS),
)
PI05: ActingReader[PiConfig, pi05.Pi05] = ActingReader(
    name=pi05.MODEL_TYPE,
    read_config=pi05.read_config,
    build=pi05.build,
    key_rules=pi05.key_rules,
    load=lambda folder: load_pi(folder, PI05, PI05_PROMPT),
    claims=partial(_claims, name=pi05.MODEL_TYPE),
    stated=lerobot_deployment,
    usual=UsualDeployment(views=3, text_tokens=pi05.PROMPT_TOKENS),
)
