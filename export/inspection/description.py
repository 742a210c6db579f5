"""The dimensions of a model in a line each, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from saccade.export.families.base import PerceivingFamily, SinglePassFamily, StepKind
from saccade.export.families.flow_family import FlowFamily
from saccade.export.inspection.recognition import Opened
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import INDEX_NAME, WEIGHTS_NAME, StoredWeights
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_tower import TowerConfig


def describe(opened: Opened) -> dict[str, str]:
    """Return what a person wants to know first, label to text."""
    family = opened.model
    grid, segments = family.grid, family.layout.segments
    facts = {
        "vision": "; ".join(_tower(tower.config) for tower in family.towers),
        "views": _views(grid.views, grid.rows, grid.columns, family.pictures),
        "decoder": f"{_decoder(family.decoder.config)}, {_sight(family)}",
        **dict(_actions(opened)),
        "sequence": " + ".join(f"{tokens} {name}" for name, tokens in segments.items() if tokens)
        + f" = {family.layout.tokens} tokens",
    }
    facts["cuts"] = f"a policy may drop visual tokens before {', '.join(_insertion_points(family))}"
    if opened.stored is not None:
        facts["files"] = _files(opened.folder, opened.stored)
    return facts


def dimensions(family: PerceivingFamily) -> dict[str, Mapping[str, int]]:
    """Return the sizes of every part for machines: part to label to number."""
    found: dict[str, Mapping[str, int]] = {
        f"vision.{number}": _tower_numbers(tower.config) for number, tower in enumerate(family.towers)
    }
    found["decoder"] = _decoder_numbers(family.decoder.config)
    if family.step_kind is StepKind.FLOW:
        found["expert"] = _decoder_numbers(cast("FlowFamily", family).sizes.expert)
    found["sequence"] = dict(family.layout.segments)
    return found


def _tower_numbers(config: TowerConfig) -> dict[str, int]:
    numbers = {name: getattr(config, name) for name in ("width", "depth", "heads", "mlp_dim", "patch_size")}
    return {**numbers, "blocks": config.run_blocks}


def _decoder_numbers(config: DecoderConfig) -> dict[str, int]:
    names = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_dim", "vocab_size")
    return {name: getattr(config, name) for name in names}


def _tower(config: TowerConfig) -> str:
    height, width = config.picture_size
    is_pooled = config.token_size != config.patch_size
    dropped = f" (of {config.depth})" if config.run_blocks < config.depth else ""
    return (
        f"{config.run_blocks}{dropped} blocks of width {config.width}, MLP {config.mlp_dim}; "
        f"{f'{width}x{height}' if is_pooled else height} px, patches of {config.patch_size} px"
        + f", {config.token_size} px a visual token"
        * is_pooled
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


def _sight(family: PerceivingFamily) -> str:
    if family.step_kind is StepKind.FLOW:
        return "runs once on the prefix"
    return "causal" if family.decoder.config.causal else "bidirectional, one pass"


def _actions(opened: Opened) -> Iterator[tuple[str, str]]:
    kind, tokens = opened.model.step_kind, opened.new_tokens
    if kind is StepKind.FLOW:
        flow = cast("FlowFamily", opened.model)
        expert = flow.sizes.expert
        yield "expert", f"{expert.layers} layers of width {expert.width}, MLP {expert.mlp_dim}"
        yield "actions", f"chunk of {flow.flow.chunk} x {flow.flow.action_dim}, {flow.flow.steps} flow steps"
    elif kind is StepKind.SINGLE_PASS:
        acting = cast("SinglePassFamily", opened.model)
        chunk, numbers = acting.action_shape
        yield "actions", f"chunk of {chunk} x {numbers}; proprioception {acting.proprio_dim}"
    elif kind is StepKind.AUTOREGRESSIVE:
        yield "actions", f"{tokens} tokens, one at a time"
    else:
        yield "answers", f"{tokens} token{'s' * (tokens != 1)}, one at a time"


def _insertion_points(family: PerceivingFamily) -> Iterator[str]:
    """Where the placement rules let a policy act."""
    if len(family.towers) == 1 and family.keeps_patches:
        yield f"tower blocks 1 to {len(family.towers[0].blocks) - 1}"
    yield "the projector"
    yield f"decoder layers 0 to {family.decoder.config.layers - 1}"


def _files(folder: CheckpointFolder, stored: StoredWeights) -> str:
    heads = [entry for entry in folder if entry.suffix == ".pt"]
    shards = sorted(folder.path.glob("*.safetensors")) if folder.has(INDEX_NAME) else [folder / WEIGHTS_NAME]
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
