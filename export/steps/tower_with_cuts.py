"""The vision towers with a policy in them: signals observed block by block, cuts made between blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.export.families.base import PerceivingFamily
from saccade.export.models.attention_rows import attention_weights
from saccade.export.models.vision_tower import VisionTower
from saccade.export.models.vision_transformer import BlockOutput, patchify
from saccade.export.steps.signal_store import SignalStore
from saccade.export.steps.survivors import Survivors, take_survivors
from saccade.policies.base import Place
from saccade.policies.signals import Pixels, VisionAttention, VisionKeys, VisionMap, VisionRows


def run_towers(family: PerceivingFamily, images: Tensor, survivors: Survivors) -> Tensor:
    """Run the vision towers on the images, with the policy's cuts in them.

    Args:
        family: Model whose towers run.
        images: uint8 ``(batch, views, height, width, 3)``, RGB.
        survivors: Makes the cuts, collects the signals, and gets the features of deep blocks.

    Returns:
        Features of the tokens that are alive, before the projector, ``(batch, alive, vision_width)``.
    """
    # The cast comes first: TensorRT takes uint8 only where it enters the graph.
    pixels = family.fit(images.float().flatten(0, 1))
    _observe_pixels(family, pixels, survivors)
    features = [
        _run_tower(index, tower, pixels, images.shape[0], survivors)
        for index, tower in enumerate(family.towers)
    ]
    return features[0] if len(features) == 1 else torch.cat(features, dim=-1)


def _run_tower(index: int, tower: VisionTower, pixels: Tensor, batch: int, survivors: Survivors) -> Tensor:
    hidden, prefix, memory = tower.begin(pixels), tower.config.prefix_tokens, survivors.towers
    for position, (block, extend) in enumerate(zip(tower.blocks, memory.extend(index, tower), strict=True)):
        for number in survivors.cuts_at(Place.TOWER, position):
            selection = survivors.cut(number, hidden[:, prefix:])
            if selection is not None:
                hidden = torch.cat([hidden[:, :prefix], take_survivors(hidden[:, prefix:], selection)], dim=1)
        if position == 0:
            if index == 0:
                survivors.choose_encoded(hidden[:, prefix:])
            hidden = memory.take_chosen(hidden, prefix)
        output = block(hidden) if extend is None else block(hidden, extend)
        for store in (survivors.signals, survivors.updates):
            _observe_block(store, index, position, output, tower, batch)
        hidden = output.hidden
        if position in tower.config.deep_blocks:
            survivors.deep += (_by_batch(tower.finish(hidden), batch),)
    return memory.complete(index, _by_batch(tower.finish(hidden), batch))


def _by_batch(features: Tensor, batch: int) -> Tensor:
    """``(pictures, tokens, channels)`` -> ``(batch, all tokens, channels)``."""
    return features.reshape(batch, -1, features.shape[-1])


def _observe_block(
    store: SignalStore, tower: int, block: int, output: BlockOutput, model: VisionTower, batch: int
) -> None:
    """Add what one block contributes."""
    prefix = model.config.prefix_tokens
    query, key = output.query, output.key[:, :, prefix:]
    for request in store.wanted(VisionAttention):
        if request.tower == tower and block in request.blocks:
            rows = query[:, :, :1] if request.rows is VisionRows.CLASS else query[:, :, prefix:]
            store.add(request, attention_weights(rows, key).mean(dim=(1, 2)).reshape(batch, -1))
    for whole in store.wanted(VisionMap):
        if (whole.tower, whole.block) == (tower, block):
            store.add(whole, attention_weights(query[:, :, prefix:], key))
    for keys in store.wanted(VisionKeys):
        if (keys.tower, keys.block) == (tower, block):
            vectors = key.float()
            flat = vectors.mean(dim=1) if keys.mean_of_heads else vectors.transpose(1, 2).flatten(2)
            store.add(keys, flat.reshape(batch, -1, flat.shape[-1]))


def _observe_pixels(family: PerceivingFamily, pixels: Tensor, survivors: Survivors) -> None:
    """Add the raw patches where they are wanted."""
    for store in (survivors.signals, survivors.updates):
        for request in store.wanted(Pixels):
            patches = patchify(pixels, family.towers[0].config.patch_size)
            store.add(request, patches.reshape(-1, family.grid.tokens, patches.shape[-1]))
