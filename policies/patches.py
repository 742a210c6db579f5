"""What raw pixels say of a token: how much it changed since the last frame."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.policies.selection import SMALLEST_SUM


def patch_similarity(
    now: Float[Tensor, "batch tokens values"], before: Float[Tensor, "batch tokens values"]
) -> Float[Tensor, "batch tokens"]:
    """Return the cosine of each patch's raw pixels with those of the last frame, rounded to 1e-6.

    Two black patches are equal (1); a black and another one have nothing in common (0); what is not finite gives 0.
    """
    product = (now * before).sum(dim=-1)
    lengths = now.norm(dim=-1) * before.norm(dim=-1)
    both_black = (now.abs().sum(dim=-1) + before.abs().sum(dim=-1)) == 0
    cosine = torch.where(both_black, 1.0, product / lengths.clamp(min=SMALLEST_SUM))
    return torch.where(cosine.abs() <= 2.0, torch.round(cosine * 1e6) / 1e6, 0.0)
