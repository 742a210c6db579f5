"""Clustering with a fixed number of clusters and static shapes, deterministic on ties."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.policies.blocks.merging import nearest_slots
from saccade.policies.blocks.selection import SMALLEST_SUM, gather_tokens, keep_top_k, positions

SQUARED_STEPS = 2**16
"""Squared distances are rounded to whole steps, this many per mean squared length.

Equal tokens are then at distance 0 on every backend, and sums over the nearest neighbours are exact, so that ties of
density are ties everywhere.
"""


def density_peaks(
    vectors: Float[Tensor, "batch tokens dim"], clusters: int
) -> tuple[Int64[Tensor, "batch {clusters}"], Int64[Tensor, "batch tokens"]]:
    """Cluster tokens around density peaks (DPC-kNN).

    With ``d(i, j) = |x_i - x_j| / sqrt(dim)``:

    - density ``rho_i = exp(-mean of d(i, j)^2 over the k nearest j)``, i itself among them, k = ``clusters``;
    - separation ``delta_i = min of d(i, j) over all j that are denser``; for the densest the largest distance of all;
    - the centres are the ``clusters`` tokens with the highest ``rho_i * delta_i``; every token joins the nearest one.

    Of equally dense tokens the one with the lower index counts as denser; other ties go to the lowest index. A token
    that is not finite is far from everything, a centre only if nothing else is left, and joins nobody.

    Args:
        vectors: Vectors between which distance is measured.
        clusters: How many centres there are, 1..tokens.

    Returns:
        The centres, ascending, and for each token the place of its centre among them (or ``merging.NOWHERE``).

    Source:
        "Study on density peaks clustering based on k-nearest neighbors" (Du et al. 2016), with k as SparseVLM's public
        code has it (26a5f48), which adds noise to the densities where this compares indices.
    """
    dim = vectors.shape[-1]
    broken = ~(vectors.float().abs().sum(dim=-1) < math.inf)
    clean = torch.where(broken.unsqueeze(-1), 0.0, vectors.float())
    steps, unit = _squared_distances(clean, broken)
    unit = unit / dim
    nearest = -torch.topk(-steps, clusters).values
    spread = nearest.sum(dim=-1)  # of whole numbers: exact
    position = positions(broken)
    earlier = position.unsqueeze(0) < position.unsqueeze(1)
    own, other = spread.unsqueeze(2), spread.unsqueeze(1)
    denser = (other < own) | ((other == own) & earlier)
    largest = steps.amax(dim=(1, 2), keepdim=True)
    separation = torch.where(denser, steps, largest).amin(dim=2)
    peak = torch.exp(-spread * unit / clusters) * torch.sqrt(separation * unit)
    centres = keep_top_k(torch.where(broken, -1.0, peak), clusters)
    closeness = -gather_tokens(steps, centres).transpose(1, 2)
    closeness = torch.where(broken.unsqueeze(2), -math.inf, closeness)
    itself = position.unsqueeze(1) == centres.unsqueeze(1).float()
    return centres, nearest_slots(torch.where(itself, math.inf, closeness))


def _squared_distances(clean: Tensor, broken: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared distances in whole steps, ``(batch, tokens, tokens)``, and what a step is, ``(batch, 1)``."""
    square = (clean * clean).sum(dim=-1)
    found = (~broken).float().sum(dim=1, keepdim=True).clamp(min=1.0)
    mean = (square.sum(dim=1, keepdim=True) / found).clamp(min=SMALLEST_SUM)
    raw = square.unsqueeze(2) + square.unsqueeze(1) - 2.0 * (clean @ clean.transpose(1, 2))
    steps = torch.round(raw.clamp(min=0.0) * (SQUARED_STEPS / mean).unsqueeze(2))
    apart = broken.unsqueeze(2) | broken.unsqueeze(1)
    position = positions(broken)
    itself = position.unsqueeze(0) == position.unsqueeze(1)
    far = torch.where(apart, steps.amax(dim=(1, 2), keepdim=True), steps)
    return torch.where(itself, 0.0, far), mean / SQUARED_STEPS
