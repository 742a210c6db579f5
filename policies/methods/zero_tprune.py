"""zero_tprune: inside the vision tower, keep what the attention graph ranks high and drop what looks like it.

Paper: "Zero-TPrune" (2305.17328, CVPR 2024); no official code is public.

Attention of one vision block is a graph for each head: patch i points at patch j with weight A[i, j]. At each cut,
in the order I', S, I:

- *I (importance)*. Weighted PageRank: from s = 1/n, ``s[j] <- sum_i s[i] A[i, j]``, a fixed number of times. Scores of
  heads are combined by their root mean square, so that what matters to a few heads survives; heads whose scores hardly
  differ or stand on a few patches only are left out (variance filter).
- *S (similarity)*. Patches are split by importance into a more and a less important half. Each patch of the
  lesser half has a nearest patch, by the cosine of key vectors, in the other; the r whose nearest is closest go.
- *I'* is a light I in front of S that drops nothing: it gives S its order.

Confirmed by the abstract and by second-hand accounts: the two stages, PageRank on the attention graph, the root mean
square, the variance filter with 0.01 and 0.7, cosine of keys, tens of iterations early in the tower, a few in the
middle and one at its end. Reconstructed, our reading:

- The graph has patches alone; the class token is no node and is never dropped. Rows sum to 1 over patches alive.
- Variance is that of n * s, whose mean is 1: on the scale of s itself no head would reach 0.01. If no head passes
  the filter, all count.
- The last I runs on the graph that S left: rows are scaled to the patches that remain, as the next softmax will do.
- Half of what a cut drops goes in S (``similar``), at most the lesser half; the rest in I.
- The halves are ``sequential`` in importance by default, the lesser half the lower one; or ``alternating``.
- Cuts in front of blocks 3, 6 and 9 of 12, scaled; each drops a third of what is dropped in all.
- 30, 5 and 1 iterations in I for the first, the middle and the last cuts; one in I'.
- Scores and cosines are rounded to steps of 2^-16, so that equal patches stay equal on every backend: ties go to the
  lowest index.

Each view keeps as many patches as the others, so counts are rounded up to a multiple of the views. Cutting inside asks
for one tower of two blocks or more; elsewhere there is one cut between tower and projector, which spares the tower
nothing. It needs the whole attention of the block before each cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Cut,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
)
from saccade.policies.blocks.budgets import nested_counts, scaled_layers
from saccade.policies.blocks.diversity import unit_vectors
from saccade.policies.blocks.selection import SMALLEST_SUM, keep_top_k, ranks, top_k_mask
from saccade.policies.config import PolicyConfig, require
from saccade.policies.signals import VisionKeys, VisionMap

BLOCKS, OF_BLOCKS = (3, 6, 9), 12
EARLY, MIDDLE, LATE = 30, 5, 1
"""Iterations of PageRank at the first cut, between, and at the last one."""
STEPS = 2.0**16
"""Scores and cosines are rounded to this many steps per unit."""


@dataclass(frozen=True, kw_only=True)
class ZeroTPruneConfig(PolicyConfig):
    """Options of zero_tprune.

    Args:
        blocks: First vision block behind each cut; empty = one cut between tower and projector. None = 3, 6 and 9 of
            12, scaled, the last ones if there is no room for three; empty if there are several towers or one block.
        tower: Vision tower whose attention is read. None = the last one.
        iterations: How often PageRank is iterated at each cut. None = 30 for the first, 1 for the last of several, 5
            between.
        light: How often PageRank is iterated to order patches for the similarity stage.
        similar: Share of what a cut drops that goes for similarity, in 0..1.
        partition: How patches are halved for the similarity stage: the more important ones against the rest
            (``sequential``), or every second one in order of importance (``alternating``).
        variance: Least and greatest variance of a head that counts.
    """

    blocks: tuple[int, ...] | None = None
    tower: int | None = None
    iterations: tuple[int, ...] | None = None
    light: int = 1
    similar: float = 0.5
    partition: Literal["sequential", "alternating"] = "sequential"
    variance: tuple[float, ...] = (0.01, 0.7)

    def __post_init__(self) -> None:
        require(1 <= self.light <= 100, "light", "in 1..100", self.light)
        require(0.0 <= self.similar <= 1.0, "similar", "in 0..1", self.similar)
        good = len(self.variance) == 2 and 0.0 <= self.variance[0] <= self.variance[1]
        require(good, "variance", "two numbers of 0 or more, the lower one first", self.variance)


class ZeroTPrune(TokenPolicy):
    """Importance and similarity pruning between vision blocks, the same number of patches in each view."""

    name: ClassVar[str] = "zero_tprune"
    options = ZeroTPruneConfig

    def __init__(self, config: ZeroTPruneConfig, shape: ModelShape) -> None:
        towers = len(shape.towers)
        tower = towers - 1 if config.tower is None else config.tower
        require(
            0 <= tower < towers, "tower", f"in 0..{towers - 1} for a model of {towers} vision towers", tower
        )
        depth = shape.towers[tower].blocks
        blocks = _default_blocks(shape) if config.blocks is None else config.blocks
        good = list(blocks) == sorted(set(blocks)) and all(1 <= block < depth for block in blocks)
        require(good, "blocks", f"rising numbers in 1..{depth - 1} for a tower of {depth} blocks", blocks)
        cuts = max(1, len(blocks))
        iterations = _default_iterations(cuts) if config.iterations is None else config.iterations
        good = len(iterations) == cuts and all(1 <= count <= 100 for count in iterations)
        require(good, "iterations", f"a number in 1..100 for each of {cuts} cuts", iterations)
        self.config: ZeroTPruneConfig = replace(config, blocks=blocks, tower=tower, iterations=iterations)
        self.cuts = tuple(
            Cut(Place.TOWER, block, (VisionMap(block - 1, tower), VisionKeys(block - 1, tower)))
            for block in blocks
        ) or (Cut(Place.PROJECTOR, 0, (VisionMap(depth - 1, tower), VisionKeys(depth - 1, tower))),)
        self._grid, self._iterations = shape.grid, iterations

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return the survivors of each cut: equal drops, rounded up to a multiple of the number of views."""
        cuts, views = len(self.cuts), self._grid.views
        counts = nested_counts(self._grid.tokens, keep, [(cut + 1) / cuts for cut in range(cuts)])
        return tuple(max(1, -(-count // views)) * views for count in counts)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Return the ``keep`` patches that survive both stages; at the projector, view by view."""
        del carry
        graph, keys = inputs.signals
        if self.cuts[inputs.cut].place is Place.TOWER:
            return Selection(self._survivors(inputs.cut, graph, keys, keep))
        views, alive = inputs.grid.views, graph.shape[-1]
        folded = keys.reshape(graph.shape[0], alive, keys.shape[-1])
        kept = self._survivors(inputs.cut, graph, folded, keep // views)
        start = torch.arange(views, device=kept.device).unsqueeze(1) * alive
        return Selection((kept.reshape(-1, views, keep // views) + start).flatten(1))

    def _survivors(self, cut: int, graph: Tensor, keys: Tensor, keep: int) -> Tensor:
        """Return the patches of each image that survive a cut, int64 ``(images, keep)``, ascending."""
        config, alive = self.config, graph.shape[-1]
        everyone = torch.ones_like(graph[:, 0, 0], dtype=torch.bool)
        remaining = everyone
        alike = min(round(config.similar * (alive - keep)), alive // 2)
        if alike:
            order = importance(graph, everyone, config.light, config.variance)
            remaining = ~similar_patches(order, keys, alike, alternating=config.partition == "alternating")
        score = importance(graph, remaining, self._iterations[cut], config.variance)
        return keep_top_k(torch.where(remaining, score, -torch.inf), keep)


def importance(
    graph: Float[Tensor, "images heads patches patches"],
    among: Bool[Tensor, "images patches"],
    iterations: int,
    variance: Sequence[float],
) -> Float[Tensor, "images patches"]:
    """Rank patches by weighted PageRank: the I stage.

    Args:
        graph: Attention between patches; what is not finite counts as 0.
        among: Patches that are nodes of the graph; the others get 0.
        iterations: How often ``s[j] <- sum_i s[i] A[i, j]`` is iterated.
        variance: Least and greatest variance of a head that counts.

    Returns:
        Root mean square over heads of n * s, in whole steps of 1 / ``STEPS``.
    """
    node = among.float()[:, None, None, :]
    edges = torch.where(graph.abs() < torch.inf, graph, 0.0) * node
    edges = edges / edges.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_SUM)
    count = node.sum(dim=-1, keepdim=True)
    rank = node / count
    for _ in range(iterations):
        rank = rank @ edges
    scaled = (rank / rank.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_SUM) * count).squeeze(2)
    spread = ((scaled - 1.0) ** 2 * node.squeeze(2)).sum(dim=-1, keepdim=True) / count.squeeze(2)
    passes = ((spread >= variance[0]) & (spread <= variance[1])).float()
    used = torch.where(passes.sum(dim=1, keepdim=True) > 0, passes, 1.0)
    mean_square = (scaled**2 * used).sum(dim=1) / used.sum(dim=1)
    return torch.round(torch.sqrt(mean_square) * STEPS)


def similar_patches(
    order: Float[Tensor, "images patches"],
    keys: Float[Tensor, "images patches width"],
    drop: int,
    *,
    alternating: bool,
) -> Bool[Tensor, "images patches"]:
    """Mark the ``drop`` patches of the lesser half that are most like one of the other half: the S stage.

    Args:
        order: Importance of each patch.
        keys: Key vectors; a patch whose vector is not finite is nobody's neighbour and goes first.
        drop: How many patches are marked, at most half of them, rounded down.
        alternating: Whether the lesser half is every second patch in order of importance; else it is the lower half.
    """
    place = ranks(order)
    half = (order.shape[1] + 1) // 2
    lesser = torch.remainder(place, 2.0) > 0.5 if alternating else place > half - 0.5
    unit = unit_vectors(keys)
    broken = torch.isnan(unit.sum(dim=-1))
    unit = torch.where(broken.unsqueeze(-1), 0.0, unit)
    cosine = torch.round(unit @ unit.transpose(1, 2) * STEPS)
    closest = torch.where((lesser | broken).unsqueeze(1), -2.0 * STEPS, cosine).amax(dim=2)
    closest = torch.where(broken, 2.0 * STEPS, closest)
    return top_k_mask(torch.where(lesser, closest, -torch.inf), drop)


def _default_blocks(shape: ModelShape) -> tuple[int, ...]:
    """The published cuts in the only tower; none where it cannot be cut inside."""
    depth = shape.towers[0].blocks
    if len(shape.towers) > 1 or depth < 2:
        return ()
    return scaled_layers(BLOCKS[-(depth - 1) :], depth, of=OF_BLOCKS)


def _default_iterations(cuts: int) -> tuple[int, ...]:
    if cuts == 1:
        return (EARLY,)
    return (EARLY, *(MIDDLE,) * (cuts - 2), LATE)
