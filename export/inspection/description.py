"""The dimensions of a model in a line each, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from saccade.export.cost.parts import expert_config
from saccade.export.cost.vision_parts import Family, perceiving, pictures
from saccade.export.families.flow import FlowModel
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.inspection.recognition import Opened
from saccade.export.loading.shards import INDEX_NAME, WEIGHTS_NAME, StoredWeights
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.qwen_patches import QwenVisionConfig
from saccade.export.models.vision_transformer import VisionConfig


def describe(folder: Path, opened: Opened) -> dict[str, str]:
    """Return what a person wants to know first, label to text."""
    model = opened.model
    family = perceiving(model)
    grid, segments = family.grid, family.layout.segments
    facts = {
        "vision": "; ".join(_tower(_known(tower.config)) for tower in family.towers),
        "views": _views(grid.views, grid.rows, grid.columns, pictures(model)),
        "decoder": f"{_decoder(family.decoder.config)}, {_sight(model)}",
        **dict(_actions(model, opened)),
        "sequence": " + ".join(f"{tokens} {name}" for name, tokens in segments.items() if tokens)
        + f" = {family.layout.tokens} tokens",
    }
    facts["cuts"] = f"a policy may drop visual tokens before {', '.join(_insertion_points(model))}"
    if opened.stored is not None:
        facts["files"] = _files(folder, opened.stored)
    return facts


def dimensions(model: Family) -> dict[str, Mapping[str, int]]:
    """Return the same for machines."""
    family = perceiving(model)
    found: dict[str, Mapping[str, int]] = {
        f"vision.{number}": _tower_numbers(_known(tower.config)) for number, tower in enumerate(family.towers)
    }
    found["decoder"] = _decoder_numbers(family.decoder.config)
    if isinstance(model, FlowModel):
        found["expert"] = _decoder_numbers(expert_config(model))
    found["sequence"] = dict(family.layout.segments)
    return found


def _tower_numbers(config: VisionConfig | QwenVisionConfig) -> dict[str, int]:
    numbers = {name: getattr(config, name) for name in ("width", "depth", "heads", "mlp_dim", "patch_size")}
    blocks = config.depth if isinstance(config, QwenVisionConfig) else config.blocks
    return {**numbers, "blocks": blocks}


def _decoder_numbers(config: DecoderConfig) -> dict[str, int]:
    names = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_dim", "vocab_size")
    return {name: getattr(config, name) for name in names}


def _known(config: object) -> VisionConfig | QwenVisionConfig:
    """The configuration of a tower: there are two kinds."""
    return cast("VisionConfig | QwenVisionConfig", config)


def _tower(config: VisionConfig | QwenVisionConfig) -> str:
    if isinstance(config, QwenVisionConfig):
        height, width = config.picture_size
        side = config.patch_size * config.merge_size
        return (
            f"{config.depth} blocks of width {config.width}, MLP {config.mlp_dim}; {width}x{height} px, patches of "
            f"{config.patch_size} px, {side} px a visual token"
        )
    dropped = f" (of {config.depth})" if config.blocks < config.depth else ""
    return (
        f"{config.blocks}{dropped} blocks of width {config.width}, MLP {config.mlp_dim}; {config.image_size} px, "
        f"patches of {config.patch_size} px"
    )


def _views(views: int, rows: int, columns: int, seen: int) -> str:
    tokens = views * rows * columns
    if rows == 1:
        return f"{seen} tiles -> {tokens} visual tokens, in grids of several sizes"
    grids = f"{views} x ({rows} x {columns}) = {tokens} visual tokens"
    return grids if seen == views else f"{seen} pictures -> {grids}"


def _decoder(config: DecoderConfig) -> str:
    heads = f"{config.heads} heads" + (f" ({config.kv_heads} kv)" if config.kv_heads != config.heads else "")
    return (
        f"{config.layers} layers of width {config.width}, {heads} of {config.head_dim}, MLP {config.mlp_dim}, "
        f"vocabulary {config.vocab_size}"
    )


def _sight(model: Family) -> str:
    if isinstance(model, FlowModel):
        return "runs once on the prefix"
    return "causal" if perceiving(model).decoder.config.causal else "bidirectional, one pass"


def _actions(model: Family, opened: Opened) -> Iterator[tuple[str, str]]:
    if isinstance(model, FlowModel):
        expert, flow = expert_config(model), model.flow
        yield "expert", f"{expert.layers} layers of width {expert.width}, MLP {expert.mlp_dim}"
        yield "actions", f"chunk of {flow.chunk} x {flow.action_dim}, {flow.steps} flow steps"
    elif isinstance(model, OpenVlaOft):
        config = model.config
        yield "actions", f"chunk of {config.chunk} x {config.action_dim}; proprioception {config.proprio_dim}"
    elif opened.family == "openvla":
        yield "actions", f"{opened.new_tokens} tokens, one at a time"
    else:
        yield "answers", f"{opened.new_tokens} token{'s' * (opened.new_tokens != 1)}, one at a time"


def _insertion_points(model: Family) -> Iterator[str]:
    """Where the placement rules let a policy act."""
    family = perceiving(model)
    if len(family.towers) == 1 and family.keeps_patches:
        yield f"tower blocks 1 to {len(family.towers[0].blocks) - 1}"
    yield "the projector"
    yield f"decoder layers 0 to {family.decoder.config.layers - 1}"


def _files(folder: Path, stored: StoredWeights) -> str:
    heads = [entry for entry in folder.iterdir() if entry.suffix == ".pt"]
    shards = (
        sorted(folder.glob("*.safetensors")) if (folder / INDEX_NAME).is_file() else [folder / WEIGHTS_NAME]
    )
    numbers = sum(_product(stored.shape(name)) for name in stored)
    size = sum(file.stat().st_size for file in (*shards, *heads))
    files = len(shards) + len(heads)
    return (
        f"{len(stored)} tensors in {files} file{'s' * (files != 1)}, {size / 1e9:.2f} GB, {numbers / 1e6:,.1f} M "
        "numbers; names and shapes fit"
    )


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
