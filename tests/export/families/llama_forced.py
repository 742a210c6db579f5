"""transformers' Llama told which action tokens it said and which visual tokens it may see: the oracle of OpenVLA."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.export.families.prismatic_reference import PATCHES, Reference

BOS = 1


class Forced(NamedTuple):
    """What the reference gives.

    Args:
        logits: Of every action token, and of one more, ``(tokens + 1, vocabulary)``.
        paid: Attention of the rows that they are read from to visual tokens, heads averaged,
            ``(layers, tokens + 1, visual)``.
    """

    logits: Tensor
    paid: NDArray[np.float64]


def forced(
    model: Reference,
    image: NDArray[np.uint8],
    words: list[int],
    tokens: list[int],
    kept: list[int],
    cut: int,
) -> Forced:
    """Run the whole sequence at once.

    Args:
        model: With eager attention.
        image: uint8 ``(1, side, side, 3)``.
        words: The prompt behind the picture.
        tokens: Action tokens that were said.
        kept: Visual tokens that layers from ``cut`` on see; all are computed.
        cut: A layer.
    """
    llama: Any = model.llama
    weights: list[Tensor] = []
    hooks = [
        layer.self_attn.register_forward_hook(lambda _, __, out: weights.append(out[1]))
        for layer in llama.model.layers
    ]
    with torch.no_grad():
        hidden = torch.cat(
            [model.embedded([BOS]), model.visual(image), model.embedded([*words, *tokens])], dim=1
        )
        whole, thin = _masks(hidden.shape[1], kept)
        rotary = llama.model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
        for number, layer in enumerate(llama.model.layers):
            mask = (whole if number < cut else thin)[None, None]
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        rows = slice(PATCHES + len(words), None)  # the last word of the prompt, and what follows it
        logits = llama.lm_head(llama.model.norm(hidden))[0, rows]
    for hook in hooks:
        hook.remove()
    paid = torch.stack([weight[0].mean(dim=0)[rows, 1 : 1 + PATCHES] for weight in weights])
    return Forced(logits, paid.double().numpy())


def said(
    model: Reference, image: NDArray[np.uint8], words: list[int], kept: list[int], cut: int, dim: int
) -> list[int]:
    """Return the action tokens that the reference says, greedily, every one from the start."""
    tokens: list[int] = []
    while len(tokens) < dim:
        tokens.append(int(forced(model, image, words, tokens, kept, cut).logits[-1].argmax()))
    return tokens


def _masks(size: int, kept: list[int]) -> tuple[Tensor, Tensor]:
    """Causal, and causal without the visual tokens that are not kept."""
    whole = torch.full((size, size), -torch.inf).triu(1)
    thin = whole.clone()
    gone = [1 + token for token in range(PATCHES) if token not in kept]
    thin[:, gone] = -torch.inf
    thin[gone, gone] = 0.0  # a row must see something; nobody sees these
    return whole, thin
