"""Temporal smoothing of per-token attention: a ring of the last control steps, newest heaviest.

A history is float32 ``(batch, window, tokens)`` in original token coordinates, oldest control step first. It is carry:
it enters and leaves the graph, and reset fills it with zeros.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_MASS = 1e-12
"""Floor of a divisor: attention that sums to less than this is treated as no attention."""


def decay_weights(window: int, decay: float) -> tuple[float, ...]:
    """Return the weight of each control step, oldest first, summing to 1.

    Control step ``t - i`` weighs ``decay ** i``, so the newest is the heaviest.

    Source:
        VLA-Pruner (2511.16449), temporal estimate. The public code at fa5bfed applies the weights in reverse
        (newest lightest); the author confirmed that as a bug, and it is not copied here.
    """
    raw = [decay**age for age in range(window, 0, -1)]
    return tuple(weight / sum(raw) for weight in raw)


def smoothed(history: Float[Tensor, "batch window tokens"], decay: float) -> Float[Tensor, "batch tokens"]:
    """Return the decayed mean over the ring: sum_i decay^i * row(t - i) / sum_i decay^i."""
    weights = history.new_tensor(decay_weights(history.shape[1], decay))
    return (history * weights[:, None]).sum(dim=1)


def push(
    history: Float[Tensor, "batch window tokens"], row: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch window tokens"]:
    """Drop the oldest control step and append ``row`` as the newest."""
    return torch.cat([history[:, 1:], row.unsqueeze(1)], dim=1)


def visual_distribution(
    attention: Float[Tensor, "batch tokens"],
    present: Float[Tensor, "batch tokens"],
    absent: Float[Tensor, "batch tokens"],
) -> Float[Tensor, "batch tokens"]:
    """Turn the attention of one control step into a distribution over all visual tokens, the pruned ones included.

    A pruned step spreads its softmax over fewer tokens; unscaled, it would outweigh full steps in the ring and
    inflate the tokens that happened to survive. So the present tokens share the mass that the absent ones leave:

        row = present * attention * (1 - sum(absent part)) / sum(present * attention) + (1 - present) * absent

    With everything present, or ``absent`` zero, that is plain normalisation by the visual mass.

    Args:
        attention: Attention that each token received; entries that are not finite count as absent.
        present: Whether the token was alive where the attention was read: 1 or 0.
        absent: What an absent token is believed to deserve (an earlier estimate), or zeros.

    Returns:
        Non-negative, sum 1 for each robot that had any visual attention.
    """
    finite = attention.abs() < torch.inf
    present = torch.where(finite, present, 0.0)
    seen = torch.where(finite, attention, 0.0) * present
    believed = (1.0 - present) * absent
    mass = seen.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_MASS)
    return seen * ((1.0 - believed.sum(dim=-1, keepdim=True)) / mass) + believed
