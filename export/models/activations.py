"""Activations by the name that a checkpoint's config uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.proto.errors import CheckpointError


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU in its tanh form, as transformers' SigLIP and Gemma use."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x), as OpenAI's CLIP uses."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation called ``name``.

    Raises:
        CheckpointError: No activation has that name; a config that asks for it cannot be run faithfully.
    """
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"expected an activation of {', '.join(ACTIVATIONS)}, found {name!r}, which nothing here has."
        )
    return ACTIVATIONS[name]
