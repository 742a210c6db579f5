"""Reads checkpoints of SmolVLA as lerobot writes them.

config.json  embodiment.json  model.safetensors  tokenizer.json  policy_preprocessor.json  policy_postprocessor.json
and the two processors' safetensors; backbone_config.json where the backbone is none of the published ones
"""

from __future__ import annotations

from saccade.export.families.checkpoint import Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import read_embodiment
from saccade.export.families.flow_checkpoint import (
    flow_checkpoint,
    lerobot_deployment,
    load_flow_model,
    own_template,
    picture_size,
    special_tokens_before,
)
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.reader import ActingReader, UsualDeployment
from saccade.export.families.smolvla.config import MODEL_TYPE, key_rules, read_config
from saccade.export.families.smolvla.model import build
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.lerobot_features import read_features
from saccade.export.loading.lerobot_processors import ends_the_line
from saccade.export.loading.lerobot_statistics import read_relative, read_statistics
from saccade.proto.instruction_spec import InstructionSpec

TEMPLATE = "{instruction}\n"
_ANY_LENGTH = 1 << 20
"""Room for a prompt, tokens: more than any has, so that it is what the checkpoint's tokenizer gives."""


def load(folder: CheckpointFolder) -> Checkpoint[FlowFamily]:
    """Read a checkpoint of SmolVLA.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong, or the embodiment does not fit.
    """
    features = read_features(folder)
    embodiment = read_embodiment(folder, features.known)
    embodiment.check_uncropped(MODEL_TYPE)
    template = own_template(embodiment, TEMPLATE if ends_the_line(folder) else TEMPLATE.rstrip("\n"))
    camera = picture_size(embodiment, features)
    config = read_config(
        folder,
        Deployment(views=len(embodiment.views), image_size=camera, max_text_tokens=_ANY_LENGTH),
    )
    check_embodiment(
        embodiment, proprio_dim=config.state_dim, chunk=config.flow.chunk, action_dim=config.action_dim
    )
    statistics = read_statistics(folder, state_dim=config.state_dim, action_dim=config.action_dim)
    embodiment = embodiment.with_relative(read_relative(folder, config.action_dim))
    tokenizer = check_tokenizer(folder, config.decoder.vocab_size)
    before = special_tokens_before(folder.tokenizer)
    return flow_checkpoint(
        folder,
        MODEL_TYPE,
        load_flow_model(READER, folder, config),
        embodiment,
        statistics,
        tokenizer,
        InstructionSpec(TOKENIZER_NAME, template, config.max_text_tokens, pad_id=0, before=before),
    )


READER = ActingReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    load=load,
    stated=lerobot_deployment,
    usual=UsualDeployment(views=1, text_tokens=48),
)
