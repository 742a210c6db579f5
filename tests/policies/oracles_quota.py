"""QuoTA's rules and its fixed-shape forms written down plainly, one robot at a time, loops spelled out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from saccade.policies.base import Grid
from tests.policies.oracles import Floats, top_k

Sizes = Sequence[tuple[int, int]]


def published_grid(budget: int) -> tuple[int, int]:
    """h = w = floor(sqrt n); one row more if (h + 1) w <= n."""
    height = width = math.isqrt(budget)
    if height > 0 and (height + 1) * width <= budget:
        height += 1
    return height, width


def clipped_once(shares: Sequence[float], limit: float) -> list[float]:
    """Clip and give the surplus to the unclipped views in proportion to their shares."""
    surplus = sum(max(0.0, share - limit) for share in shares)
    unclipped = sum(share for share in shares if share < limit)
    return [limit if share >= limit else share + surplus * share / unclipped for share in shares]


def order_of_views(scores: Floats) -> list[int]:
    """Views by falling score; ties by index, NaN last."""
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    return sorted(range(len(scores)), key=lambda view: (-ranked[view], view))


def shares(scores: Floats, exponent: float) -> Floats:
    """w = (100 s)^exponent, p = w / sum w."""
    weights = [(100.0 * float(score)) ** exponent for score in scores]
    return np.array([weight / sum(weights) for weight in weights])


def table_of(scores: Floats, exponent: float, tables: Sequence[Sizes], per_row: int) -> Sizes:
    """The table whose shares are nearest to those of the views, largest first; the flattest of equals.

    Args:
        scores: Of the views.
        exponent: Of the shares.
        tables: Flattest first.
        per_row: Line breaks at the end of each row.
    """
    clean = np.where(np.isfinite(scores) & (scores > 0), scores, 0.0)
    equal = np.full(len(clean), 1 / len(clean))
    wanted = np.sort(shares(clean, exponent) if clean.any() else equal)[::-1]
    distances = []
    for sizes in tables:
        counts = np.array([height * (width + per_row) for height, width in sizes])
        distances.append(round(4096 * float(np.abs(wanted - counts / counts.sum()).sum())))
    return tables[distances.index(min(distances))]


def flat(scores: Floats, tokens: Floats, grid: Grid, exponent: float, keep: int) -> list[int]:
    """Top-k of share times token score; a view of no worth comes last, its own best tokens first."""
    share = [max(worth, 1e-6) for worth in shares(scores, exponent)]
    return top_k(
        np.array([share[token // grid.per_view] * tokens[token] for token in range(grid.tokens)]), keep
    )


def centre(index: int, size: int, count: int) -> float:
    """Centre of an output token, in input tokens: 0 is the centre of the first."""
    return (index + 0.5) * size / count - 0.5


def side(mode: str, index: int, size: int, count: int) -> dict[int, float]:
    """Input tokens along one side that make up one output token, with weights."""
    if mode == "adaptive":
        span = range(math.floor(index * size / count), math.ceil((index + 1) * size / count))
        return {token: 1.0 / len(span) for token in span}
    if mode == "even":
        return {nearest(index, size, count): 1.0}
    at = min(max(centre(index, size, count), 0.0), size - 1.0)
    below, above = math.floor(at), min(math.floor(at) + 1, size - 1)
    weights = {below: 1.0 - (at - below)}
    weights[above] = weights.get(above, 0.0) + at - below
    return weights


def nearest(index: int, size: int, count: int) -> int:
    """The input token whose span holds the centre."""
    return math.floor((index + 0.5) * size / count)


def levels(scores: Floats, grid: Grid, sizes: Sizes, mode: str) -> tuple[list[int], Floats]:
    """Resample the view that ranks r-th to the r-th size; survivors in order, and what each is made of."""
    columns = grid.columns - int(grid.newline)
    made: dict[int, dict[int, float]] = {}
    for view, (height, width) in zip(order_of_views(scores), sizes, strict=True):
        start = view * grid.per_view
        for row in range(height):
            rows = side(mode, row, grid.rows, height)
            home = start + nearest(row, grid.rows, height) * grid.columns
            for column in range(width):
                across = side(mode, column, columns, width)
                made[home + nearest(column, columns, width)] = {
                    start + r * grid.columns + c: weight * other
                    for r, weight in rows.items()
                    for c, other in across.items()
                }
            if grid.newline:
                made[home + columns] = {home + columns: 1.0}
    return rows_of(made, grid.tokens)


def rows_of(made: dict[int, dict[int, float]], tokens: int) -> tuple[list[int], Floats]:
    """Sort by position and write the weights into a matrix."""
    kept = sorted(made)
    mix = np.zeros((len(kept), tokens))
    for slot, position in enumerate(kept):
        for token, weight in made[position].items():
            mix[slot, token] = weight
    return kept, mix


def merged(embeddings: Floats, count: int) -> dict[int, list[int]]:
    """ToMe: in each round, deal out in turn, pair with the most similar, merge the most similar pairs.

    Returns position to the tokens that went into it.
    """
    clean = np.where(np.isfinite(embeddings), embeddings, 0.0).astype(np.float64)
    groups = {token: [token] for token in range(len(embeddings))}
    while len(groups) > count:
        alive = sorted(groups)
        first, second = alive[0::2], alive[1::2]
        mean = {token: clean[groups[token]].mean(axis=0) for token in alive}
        pairs = []
        for a in first:
            likeness = {b: cosine(mean[a], mean[b]) for b in second}
            partner = max(second, key=lambda b: (likeness[b], -b))
            pairs.append((likeness[partner], a, partner))
        pairs.sort(key=lambda pair: (-pair[0], pair[1]))
        for _, a, b in pairs[: min(len(alive) - count, len(alive) // 2)]:
            groups[b] = groups[b] + groups.pop(a)
    return groups


def cosine(a: Floats, b: Floats) -> float:
    """Rounded to 1 / 65536; a zero vector is orthogonal to everything."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.round(a @ b / norms * 65536)) if norms > 0 else 0.0


def merged_levels(scores: Floats, embeddings: Floats, grid: Grid, sizes: Sizes) -> tuple[list[int], Floats]:
    """The same with merging instead of resampling; line breaks of evenly spaced rows come along."""
    columns = grid.columns - int(grid.newline)
    made: dict[int, dict[int, float]] = {}
    for view, (height, width) in zip(order_of_views(scores), sizes, strict=True):
        if height == 0:
            continue
        start = view * grid.per_view
        patches = [start + i for i in range(grid.per_view) if i % grid.columns < columns]
        for position, members in merged(embeddings[patches], height * width).items():
            made[patches[position]] = {patches[member]: 1.0 / len(members) for member in members}
        for row in range(height * int(grid.newline)):
            line_break = start + nearest(row, grid.rows, height) * grid.columns + columns
            made[line_break] = {line_break: 1.0}
    return rows_of(made, grid.tokens)
