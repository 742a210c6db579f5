"""What the vision towers and the projector of a model multiply and read, by formula, for every family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, cast

from torch import nn

from saccade.export.cost.accounting import patches_by_block
from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.formulas import parameters, products, tower_macs
from saccade.export.families.base import PerceivingFamily
from saccade.export.families.flow import FlowModel
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.llava.next import LlavaNext
from saccade.export.families.llava.onevision import LlavaOnevision, Resampling
from saccade.export.families.llava.tiled import TiledLlava
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.pi.pi0 import Pi0
from saccade.export.families.qwen_vl.model import QwenVl
from saccade.export.families.smolvla.model import SmolVla
from saccade.export.models.qwen_patches import QwenVisionConfig
from saccade.export.models.qwen_vision import QwenVisionTower
from saccade.export.models.vision_transformer import VisionConfig
from saccade.policies.base import Place
from saccade.proto.roofline import PROJECTOR, VISION, Part

Family: TypeAlias = OpenVlaOft | GeneratingModel | FlowModel
"""A model of any family that is known here, on the meta device and before constants are folded."""


def perceiving(model: Family) -> PerceivingFamily:
    """Return the model as what every family is."""
    return cast("PerceivingFamily", model)


def pictures(model: Family) -> int:
    """Return how many pictures each tower sees in one observation: views, tiles, frames, or clips of frames."""
    if isinstance(model, LlavaNext):
        return model.config.tiles.tiles * (
            len(model.config.blocks) // 2
        )  # an overview and a picture for each view
    if isinstance(model, LlavaOnevision) and model.config.tiles is not None:
        return model.config.tiles.tiles
    if isinstance(model, TiledLlava):
        return len(model.config.blocks)
    return perceiving(model).grid.views


def vision_part(model: Family, plan: CutPlan) -> Part:
    """Return what the towers do."""
    family = perceiving(model)
    macs, views = 0, pictures(model)
    for tower in family.towers:
        config = tower.config
        if isinstance(config, QwenVisionConfig):
            macs += qwen_tower_macs(cast("QwenVisionTower", tower), views)
        elif isinstance(config, VisionConfig):
            macs += tower_macs(config, views, patches_by_block(family, config, plan, views))
    return Part(VISION, macs, sum(parameters(cast("nn.Module", tower)) for tower in family.towers))


def qwen_tower_macs(tower: QwenVisionTower, clips: int) -> int:
    """Return the MACs of a tower of Qwen-VL for ``clips`` pictures, or clips of frames."""
    config = tower.config
    patches, width = config.rows * config.columns, config.width
    frames = config.patch_frames if config.frames else 1
    total = patches * 3 * config.patch_size**2 * frames * width
    for index in range(config.depth):
        runs = tower.order.whole if index in config.full_blocks else tower.order.windowed
        attention = 2 * width * sum(run.windows * run.patches**2 for run in runs)
        mlp = (3 if config.gated else 2) * width * config.mlp_dim
        total += patches * (4 * width**2 + mlp) + attention
    return clips * total


def folded_macs(model: Family) -> int:
    """Return the MACs that a module shows and a graph folds: resampling a learned position table (Qwen3-VL)."""
    if not isinstance(model, QwenVl) or not model.config.tower.position_side:
        return 0
    tower = model.config.tower
    side, width = tower.position_side, tower.width
    return tower.rows * side * side * width + tower.rows * tower.columns * side * width


def projector_part(model: Family, plan: CutPlan) -> Part:
    """Return what brings visual tokens, and the robot's state, to the decoder's width."""
    tokens = perceiving(model).grid.tokens
    rows = plan.alive(tokens, Place.PROJECTOR)
    state = _state_values(model)
    macs, weights = state.macs, state.weights + sum(map(parameters, _projectors(model)))
    if isinstance(model, LlavaOnevision) and model.config.resampling is not None:
        resampled, rows = _resampled(model, model.config.resampling)
        macs += resampled
    macs += rows * products(cast("nn.Module", model.projector))
    if isinstance(model, QwenVl):
        macs += rows * products(model.deep_projectors)
    return Part(PROJECTOR, macs, weights)


def _projectors(model: Family) -> Iterator[nn.Module]:
    names = ("projector", "deep_projectors")
    return (cast("nn.Module", getattr(model, name)) for name in names if hasattr(model, name))


def _state_values(model: Family) -> Part:
    """Return what reads proprioception; columns of a weight that would meet zeros are cut off."""
    if isinstance(model, OpenVlaOft):
        return Part(PROJECTOR, products(model.proprio_projector), parameters(model.proprio_projector))
    if isinstance(model, SmolVla | Pi0):
        macs = model.config.state_dim * model.state_proj.out_features
        return Part(PROJECTOR, macs, macs + model.state_proj.out_features)
    return Part(PROJECTOR, 0, 0)


def _resampled(model: LlavaOnevision, resampling: Resampling) -> tuple[int, int]:
    """MACs of resampling grids of tokens, and how many tokens are projected before."""
    (rows, columns), (fewer_rows, fewer_columns) = resampling
    config = model.config
    grids = 1 if config.tiles is not None else len(config.blocks)
    width = config.text.decoder.width
    macs = grids * width * (fewer_rows * rows * columns + fewer_rows * fewer_columns * columns)
    projected = grids * config.tower.tokens if config.tiles is None else len(config.tiles.patches)
    return macs, projected
