"""Text raters: the text tokens of an instruction that look at the picture, as weights of fixed shape.

They are found once, at the first of several cuts, while every visual token is there. Later cuts read them from notes,
which hold one number for each visual token: here the same one for all, whose binary digits are the raters.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DIGITS = 24
"""Raters in one note: float32 holds whole numbers of that many binary digits."""
RELEVANCE_STEPS = 2**16
"""Relevance is compared with its mean in steps of this many parts of the mean, so that equal tokens count alike."""


def text_raters(
    text: Float[Tensor, "batch text dim"],
    text_mask: Bool[Tensor, "batch text"],
    visual: Float[Tensor, "batch tokens dim"],
) -> Bool[Tensor, "batch text"]:
    """Return the text tokens that are more relevant to the visual tokens than the mean; all of them if none is.

    ``relevance_j = mean over visual i of softmax_j(x_i . t_j)``, over valid text tokens. Visual tokens whose logits are
    not finite are left out of the mean.

    Source:
        SparseVLM (ICML 2025, 2410.04417), as its code computes it (26a5f48): plain inner products.
    """
    logits = visual.float() @ text.float().transpose(1, 2)
    logits = torch.where(text_mask.unsqueeze(1), logits, -torch.inf)
    share = torch.softmax(logits, dim=2)
    sound = ~torch.isnan(share.sum(dim=2, keepdim=True))
    count = sound.float().sum(dim=1).clamp(min=1.0)
    relevance = torch.where(sound, share, 0.0).sum(dim=1) / count
    # Relevances sum to 1, so their mean is 1 / (number of valid text tokens).
    valid = text_mask.float().sum(dim=1, keepdim=True)
    above = (torch.round(relevance * valid * RELEVANCE_STEPS) > RELEVANCE_STEPS) & text_mask
    nobody = above.float().sum(dim=1, keepdim=True) == 0
    return above | (text_mask & nobody)


def rated(
    by_row: Float[Tensor, "batch text tokens"], raters: Bool[Tensor, "batch text"]
) -> Float[Tensor, "batch tokens"]:
    """Return the mean of the raters' rows; entries that are not finite count as 0."""
    counts = raters.unsqueeze(2) & (by_row.abs() < torch.inf)
    return torch.where(counts, by_row, 0.0).sum(dim=1) / raters.float().sum(dim=1, keepdim=True).clamp(
        min=1.0
    )


def notes_of(raters: Bool[Tensor, "batch text"], alive: int) -> dict[str, Tensor]:
    """Write raters down as notes, float32 ``(batch, alive)`` each."""
    notes = {}
    for start in range(0, raters.shape[1], DIGITS):
        digits = raters[:, start : start + DIGITS].float()
        worth = torch.tensor([2.0**place for place in range(digits.shape[1])], device=raters.device)
        notes[f"raters.{start}"] = (digits * worth).sum(dim=1, keepdim=True).expand(-1, alive)
    return notes


def raters_in(notes: Mapping[str, Tensor], text: int) -> Bool[Tensor, "batch {text}"]:
    """Read the raters of ``text`` tokens back."""
    found = []
    for start in range(0, text, DIGITS):
        number = notes[f"raters.{start}"][:, :1]
        worth = torch.tensor([2.0**place for place in range(min(DIGITS, text - start))], device=number.device)
        half = torch.floor(number / worth) * 0.5
        found.append(half > torch.floor(half))
    return torch.cat(found, dim=1)
