"""visionzip from the paper's formulas, one image at a time, loops spelled out. Slow on purpose."""

from __future__ import annotations

import numpy as np

from tests.policies.oracles import ROUNDING_STEPS, Floats, top_k


def similarity(a: Floats, b: Floats) -> float:
    """cos(a, b), rounded as the policy documents; a zero vector is orthogonal to everything."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.round((a @ b / lengths if lengths > 0 else 0.0) * ROUNDING_STEPS))


def visionzip(
    attention: Floats, keys: Floats, dominant: int, contextual: int, norm: str
) -> tuple[list[int], dict[int, dict[int, float]]]:
    """Survivors of one image, ascending, and for each what it is made of: token to weight."""
    made_of: dict[int, dict[int, float]] = {token: {token: 1.0} for token in top_k(attention, dominant)}
    remaining = [token for token in range(len(attention)) if token not in made_of]
    step = max(1, len(remaining) // contextual) if contextual else 1
    targets = remaining[::step][:contextual]
    members: dict[int, list[int]] = {target: [] for target in targets}
    for token in remaining:
        if token in members or not targets or not np.isfinite(keys[token]).all():
            continue
        open_targets = [target for target in targets if np.isfinite(keys[target]).all()]
        if open_targets:
            best = max(open_targets, key=lambda target: (similarity(keys[token], keys[target]), -target))
            members[best].append(token)
    for target, joined in members.items():
        made_of[target] = {target: 1.0, **{token: 1.0 / len(joined) for token in joined}}
        if joined and norm == "mean":
            made_of[target] = {token: weight / 2 for token, weight in made_of[target].items()}
    return sorted(made_of), made_of
