"""Reads checkpoints of OpenVLA as published, and an ``embodiment.json`` that says what they leave open.

config.json  preprocessor_config.json  dataset_statistics.json (or norm_stats in config.json)  tokenizer.json
model.safetensors (or shards with an index)  embodiment.json

Its prompt is the embodiment's template, or the published one, around the instruction in lower case; it ends in the
lone space.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from saccade.export.families.checkpoint import TOKENIZER_NAME, Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import read_embodiment
from saccade.export.families.openvla import model as openvla
from saccade.export.loading.data_sets import DATA_SETS_NAME, DataSet, read_data_set
from saccade.export.loading.prismatic import check_template
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.export.steps.step_of import AUTOREGRESSIVE
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec, TextStep
from saccade.proto.statistics import STATISTICS_NAME, Statistics

FAMILY = "openvla"


def load(path: Path) -> Checkpoint[openvla.OpenVla]:
    """Read a checkpoint.

    Args:
        path: Its folder.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        StatisticsError: The statistics of the data set are broken.
    """
    given = read_embodiment(path)
    data_set = read_data_set(path, given.statistics_key or None)
    template = given.template or openvla.PROMPT
    embodiment = replace(given, statistics_key=data_set.name, template=template)
    deployment = Deployment(views=len(embodiment.views), statistics_key=data_set.name)
    config = openvla.read_config(path, deployment)
    check_embodiment(embodiment, views=1, proprio_dim=0, chunk=1, action_dim=config.action_dim)
    tokenizer = check_tokenizer(path, config.text.decoder.vocab_size)
    check_template(Tokenizer.from_file(str(tokenizer)), template)
    model = openvla.build(config)
    load_weights(model, StoredWeights(path), openvla.key_rules(config), mapped=True)
    return Checkpoint(
        path=path,
        family=FAMILY,
        model=model.eval().requires_grad_(False),
        kind=AUTOREGRESSIVE,
        embodiment=embodiment,
        statistics=_statistics(path, data_set, config),
        tokenizer=tokenizer,
        instruction=InstructionSpec(
            TOKENIZER_NAME,
            template,
            config.frame.max_text_tokens,
            config.pad_id,
            steps=(TextStep.LOWER_CASE,),
        ),
    )


def _statistics(path: Path, data_set: DataSet, config: openvla.OpenVlaConfig) -> Statistics:
    """Return the scales of the data set's actions; the model has no proprioception."""
    if (path / STATISTICS_NAME).is_file():
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
