"""Models that saccade trains: where each plays, its dimensions, its vocabulary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.proto.errors import CheckpointError
from saccade.sim.tabletop import shapes
from saccade.sim.tabletop.arm import ACTION_NAMES, PROPRIO_NAMES
from saccade.sim.tabletop.cameras import VIEWS
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tasks import DIRECTIONS
from saccade.sim.training.demonstrations import CHUNK, PATCH_PX

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
MAX_TEXT_TOKENS = 10
_HEAD_DIM = 32
_MODEL_FILE = "model.json"


@dataclass(frozen=True, kw_only=True)
class Mini:
    """A model to train, as plain numbers.

    Args:
        name: Name of the configuration, as in ``--model``.
        title: Name of the model, for people.
        table: The table that it plays on.
        tower_blocks: Blocks of the vision tower.
        tower_width: Channels of a token in the tower; heads have 64 channels.
        tower_mlp: Hidden width of the tower's MLP.
        layers: Decoder layers.
        width: Channels of a token in the decoder; heads have 32 channels.
        mlp: Hidden width of the decoder's gated MLP.
        words: Words of its instructions beside colours and directions, in the order of their tokens.
    """

    name: str
    title: str
    table: Table
    tower_blocks: int
    tower_width: int
    tower_mlp: int
    layers: int
    width: int
    mlp: int
    words: tuple[str, ...]


MINI = Mini(
    name="mini-2",
    title="saccade-mini",
    table=shapes.TABLE,
    tower_blocks=3,
    tower_width=192,
    tower_mlp=512,
    layers=8,
    width=256,
    mlp=512,
    words=(
        "touch", "push", "put", "stack", "pick", "the", "block", "cylinder", "ball", "zone", "to", "in", "on",
    ),
)  # fmt: skip
"""288 visual tokens; the decoder is most of the work, as in the models that it stands for."""

MINIS = {mini.name: mini for mini in (MINI,)}


def begin_run(run: Path, asked: str | None) -> Mini:
    """Return the model that a run trains; a run that was begun for none yet is begun for this one.

    Args:
        run: Folder of the training run.
        asked: Name of the model to train; None = the run's own, or the newest.

    Raises:
        CheckpointError: There is no such model, or the run was begun for another one.
    """
    path = run / _MODEL_FILE
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"model": asked or MINI.name}) + "\n")
    mini = mini_of(run)
    if asked not in (None, mini.name):
        raise CheckpointError(
            f"expected {run} to train {mini.name}, found --model {asked}: begin a new --run."
        )
    return mini


def mini_of(run: Path) -> Mini:
    """Return the model that a run trains; the newest if it was begun for none.

    Raises:
        CheckpointError: The run was begun for a model that is no more.
    """
    path = run / _MODEL_FILE
    name = json.loads(path.read_text())["model"] if path.exists() else MINI.name
    if name not in MINIS:
        raise CheckpointError(f"expected a model out of {', '.join(MINIS)} in {path}, found {name!r}.")
    return MINIS[name]


def build_tokenizer(mini: Mini) -> Tokenizer:
    """Return a tokenizer with one token for each word of an instruction; everything else is ``<unk>``."""
    table = mini.table
    words = [PAD, BOS, EOS, UNKNOWN, *mini.words, *table.thing_colours, *table.zone_colours, *DIRECTIONS]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def build_config(mini: Mini, tokenizer: Tokenizer) -> OftConfig:
    """Return the configuration of a model."""
    vocabulary = tokenizer.get_vocab()
    tower = VisionConfig(
        image_size=mini.table.image_px,
        patch_size=PATCH_PX,
        width=mini.tower_width,
        depth=mini.tower_blocks,
        heads=mini.tower_width // 64,
        mlp_dim=mini.tower_mlp,
    )
    decoder = DecoderConfig(
        width=mini.width,
        layers=mini.layers,
        heads=mini.width // _HEAD_DIM,
        kv_heads=mini.width // _HEAD_DIM,
        head_dim=_HEAD_DIM,
        mlp_dim=mini.mlp,
        vocab_size=len(vocabulary),
        causal=False,
    )
    return OftConfig(
        towers=(tower,),
        decoder=decoder,
        views=len(VIEWS),
        chunk=CHUNK,
        action_dim=len(ACTION_NAMES),
        proprio_dim=len(PROPRIO_NAMES),
        max_text_tokens=MAX_TEXT_TOKENS,
        bos_id=vocabulary[BOS],
        eos_id=vocabulary[EOS],
        pad_id=vocabulary[PAD],
    )
