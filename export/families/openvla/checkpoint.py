"""Reads checkpoints of OpenVLA as published, and an ``embodiment.json`` that says what they leave open.

config.json  preprocessor_config.json  dataset_statistics.json (or norm_stats in config.json)  tokenizer.json
model.safetensors (or shards with an index)  embodiment.json

Its prompt is the embodiment's template, or the published one, around the instruction in lower case; it ends in the
lone space.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from saccade.export.families.checkpoint import Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, read_embodiment
from saccade.export.families.openvla.model import (
    AUGMENTED,
    EVALUATED,
    OpenVla,
    OpenVlaConfig,
    build,
    key_rules,
    read_config,
)
from saccade.export.families.reader import ActingReader, Unit, UsualDeployment, stated_name
from saccade.export.loading import prismatic
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.data_sets import DATA_SETS_NAME, DataSet, read_data_set
from saccade.export.loading.torch_heads import head_steps
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec, TextStep
from saccade.proto.statistics import STATISTICS_NAME, Statistics

FAMILY = "openvla"
_log = logging.getLogger(__name__)


def load(folder: CheckpointFolder) -> Checkpoint[OpenVla]:
    """Read a checkpoint of OpenVLA.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        StatisticsError: The statistics of the data set are broken.
    """
    given = read_embodiment(folder)
    data_set = read_data_set(folder, given.statistics_key or None)
    given.check_unnamed_cameras()
    template = given.template or prismatic.PROMPT
    embodiment = replace(given, statistics_key=data_set.name, template=template)
    _warn_of_crop(folder, embodiment)
    config = read_config(folder, embodiment.deployment())
    check_embodiment(embodiment, views=1, proprio_dim=0, chunk=1, action_dim=config.action_dim)
    tokenizer = check_tokenizer(folder, config.text.decoder.vocab_size)
    prismatic.check_template(folder.tokenizer, template)
    return Checkpoint(
        path=folder.path,
        family=FAMILY,
        model=READER.load_model(folder, config),
        embodiment=embodiment,
        statistics=_statistics(folder, data_set, config),
        tokenizer=tokenizer,
        instruction=InstructionSpec(
            TOKENIZER_NAME,
            template,
            config.prompt_layout.max_text_tokens,
            config.pad_id,
            steps=(TextStep.LOWER_CASE,),
        ),
    )


def _warn_of_crop(folder: CheckpointFolder, embodiment: Embodiment) -> None:
    """Say that a fine-tune may want the crop; no file tells whether its pictures were augmented."""
    if embodiment.crop is None and folder.has(DATA_SETS_NAME) and AUGMENTED not in folder.name:
        _log.warning(
            "%s: a fine-tune, looked at without a crop; where it was trained with augmentation (image_aug), write "
            '"crop": %s into embodiment.json, else "crop": 1',
            folder.name,
            EVALUATED,
        )


def _statistics(folder: CheckpointFolder, data_set: DataSet, config: OpenVlaConfig) -> Statistics:
    """Return the scales of the data set's actions; the model has no proprioception."""
    if folder.has(STATISTICS_NAME):
        raise CheckpointError(
            f"expected the statistics of an OpenVLA model in {DATA_SETS_NAME} or config.json, found {STATISTICS_NAME} "
            "too; remove it, or rename it."
        )
    bounds = config.bounds
    action = {"q01": [*bounds.low], "q99": [*bounds.high], "mask": [*bounds.mask]}
    content = {data_set.name: {"action": action, "proprio": {"q01": [], "q99": []}}}
    return Statistics.from_json(
        content, data_set.name, data_set.where, action_dim=config.action_dim, proprio_dim=0
    )


def _claims(folder: CheckpointFolder) -> bool:
    """Whether a checkpoint is OpenVLA's; OpenVLA-OFT states the same, but has action heads in files of their own."""
    return stated_name(folder) == prismatic.MODEL_TYPE and not head_steps(folder, "action_head")


READER = ActingReader(
    name=FAMILY,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    load=load,
    claims=_claims,
    classes=("OpenVLAForActionPrediction",),
    usual=UsualDeployment(views=1, text_tokens=Deployment.max_text_tokens),
    unit=Unit.ACTION,
    said_tokens=lambda config: config.action_dim,
)
