"""What raw pixels say of a token: how much it changed since the last control step, how much there is to see in it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.policies.blocks.selection import SMALLEST_SUM


def patch_similarity(
    now: Float[Tensor, "batch tokens values"], before: Float[Tensor, "batch tokens values"]
) -> Float[Tensor, "batch tokens"]:
    """Return the cosine of each patch's raw pixels with those of the last control step, rounded to 1e-6.

    Two black patches are equal (1); a black and another one have nothing in common (0); what is not finite gives 0.
    """
    product = (now * before).sum(dim=-1)
    lengths = now.norm(dim=-1) * before.norm(dim=-1)
    both_black = (now.abs().sum(dim=-1) + before.abs().sum(dim=-1)) == 0
    cosine = torch.where(both_black, 1.0, product / lengths.clamp(min=SMALLEST_SUM))
    return torch.where(cosine.abs() <= 2.0, torch.round(cosine * 1e6) / 1e6, 0.0)


def patch_change(
    now: Float[Tensor, "batch tokens values"], before: Float[Tensor, "batch tokens values"]
) -> Float[Tensor, "batch tokens"]:
    """Return the mean absolute difference of each patch's raw pixels, levels of 255; what is not finite gives 0."""
    change = (now - before).abs().mean(dim=-1)
    return torch.where(change < torch.inf, change, 0.0)


def patch_entropy(pixels: Float[Tensor, "batch tokens values"]) -> Float[Tensor, "batch tokens"]:
    """Return the entropy of each patch's grey levels in bits, from a histogram of 256 bins, exactly.

    Grey is the mean of red, green and blue, rounded down. A bin is 16 * high + low, so the histogram of a patch is the
    16 x 16 product of two one-hot matrices: 2 * 16 numbers for each pixel instead of 256. What is not a number counts
    in no bin.

    Source:
        VFlowOpt (2508.05211), patch entropy. The public code at 129eeef takes the grey levels of normalised pixels,
        which wrap around; here they are those of the image.
    """
    colours = pixels.reshape(*pixels.shape[:2], -1, 3)
    # Whole numbers: half a step away from the edges of a bin, division cannot land in the wrong one.
    grey = torch.floor((colours.sum(dim=-1) + 0.5) / 3.0)
    high = torch.floor((grey + 0.5) / 16.0)
    level = torch.arange(16, device=pixels.device, dtype=torch.float32)
    is_high = (high.unsqueeze(-1) == level).float()
    is_low = ((grey - 16.0 * high).unsqueeze(-1) == level).float()
    counts = (is_high.transpose(2, 3) @ is_low).flatten(2)
    # sum -p log2(p) = log2(n) - sum c log2(c) / n; an empty bin adds c log2(1) = 0.
    count = float(colours.shape[2])
    return math.log2(count) - (counts * torch.log2(counts.clamp(min=1.0))).sum(dim=-1) / count
