"""VFlowOpt written down from the paper's formulas, one robot at a time, loops spelled out."""

from __future__ import annotations

import math

import numpy as np

from saccade.policies.base import Grid
from tests.policies.oracles import Floats


def context_relevance(attention: Floats, patches: list[int], t: float) -> Floats:
    """c_i = mean over j in K of A_ji, with K = {j : r_j > t mean(r)}, r_j = mean_i A_ij, A the mean over heads.

    ``attention`` is one view's, ``(heads, tokens, tokens)``; only patches are rows and columns of A.
    """
    mean = attention.astype(np.float64).mean(axis=0)
    received = {j: sum(mean[i, j] for i in patches) / len(patches) for j in patches}
    average = sum(received.values()) / len(patches)
    core = [j for j in patches if received[j] > t * average]
    if not core:
        core = [max(patches, key=lambda j: (received[j], -j))]
    relevance = np.zeros(mean.shape[0])
    for i in patches:
        relevance[i] = sum(mean[j, i] for j in core) / len(core)
    return relevance


def entropy(patch: Floats) -> float:
    """H = -sum_b p_b log2 p_b over the grey levels of one patch, RGB interleaved, whole numbers."""
    counts: dict[int, int] = {}
    pixels = patch.reshape(-1, 3).astype(int)
    for red, green, blue in pixels:
        grey = (red + green + blue) // 3
        counts[grey] = counts.get(grey, 0) + 1
    shares = [count / len(pixels) for count in counts.values()]
    return -sum(share * math.log2(share) for share in shares)


def importance(maps: Floats, pixels: Floats | None, grid: Grid, t: float, alpha: float) -> Floats:
    """I = c + alpha softmax(H) view by view; 1 for a line break. ``maps``: ``(views, heads, tokens, tokens)``."""
    width = grid.columns - int(grid.newline)
    patches = [i for i in range(grid.per_view) if i % grid.columns < width]
    values: list[float] = []
    for view in range(grid.views):
        relevance = context_relevance(maps[view], patches, t)
        if pixels is not None:
            powers = {i: 2.718281828459045 ** entropy(pixels[view * grid.per_view + i]) for i in patches}
            for i in patches:
                relevance[i] += alpha * powers[i] / sum(powers.values())
        values += [float(relevance[i]) if i in patches else 1.0 for i in range(grid.per_view)]
    return np.array(values)


def ranking(values: Floats) -> list[int]:
    """Tokens from the most to the least important; ties by index."""
    return sorted(range(len(values)), key=lambda token: (-values[token], token))


def recycle(values: Floats, grid: Grid, side: float, keep: int, reserved: int) -> tuple[list[int], Floats]:
    """The best ``keep - reserved`` as they are, one merged token for each cell of others, and the next best.

    Returns the survivors, ascending, and what each is made of, ``(keep, tokens)``.
    """
    order = ranking(values)
    rest = order[keep - reserved :]
    width = grid.columns - int(grid.newline)
    cells: dict[tuple[int, int, int], list[int]] = {}
    for token in rest:  # in order of importance, so that the first member of a cell is its head
        view, local = divmod(token, grid.per_view)
        row, column = divmod(local, grid.columns)
        if column < width:
            cells.setdefault((view, int(row // side), int(column // side)), []).append(token)
    heads = [members[0] for members in cells.values()]  # in order of importance too
    merged = heads[:reserved]
    next_best = [token for token in rest if token not in heads][: reserved - len(merged)]
    survivors = sorted([*order[: keep - reserved], *merged, *next_best])
    mix = np.zeros((keep, len(values)))
    for slot, token in enumerate(survivors):
        members = [token]
        if token in merged:
            members = next(cell for cell in cells.values() if cell[0] == token)
            members = [member for member in members if member not in next_best]
        weights = {member: max(values[member], 0.0) for member in members}
        total = sum(weights.values())
        if total <= 1e-12:
            weights, total = {token: 1.0}, 1.0
        for member, weight in weights.items():
            mix[slot, member] = weight / total
    return survivors, mix
