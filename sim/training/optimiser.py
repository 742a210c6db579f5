"""What changes the weights: Muon for the matrices of transformer blocks, AdamW for everything else.

On these models Muon reaches the same loss in little more than half of AdamW's steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BLOCKS = (".blocks.", ".layers.")
"""Where a parameter's name says that it is a transformer block's."""


class Optimiser:
    """Muon and AdamW under one rate.

    Args:
        module: What is trained; parameters that take no gradient are left alone.
        weight_decay: Decoupled weight decay of both.

    Source:
        Muon: https://kellerjordan.github.io/posts/muon/, with the scale of 2502.16982 that lets both share a rate.
    """

    def __init__(self, module: nn.Module, weight_decay: float) -> None:
        named = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in named if _is_block_matrix(name, weight)]
        others = [weight for name, weight in named if not _is_block_matrix(name, weight)]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        ]
        if matrices:
            self._parts.append(
                torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )

    def step(self, rate: float) -> None:
        """Change the weights by their gradients at a learning rate, and forget the gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return what it remembers, named ``part.parameter.moment``."""
        return {
            f"{part}.{parameter}.{moment}": value
            for part, optimiser in enumerate(self._parts)
            for parameter, moments in optimiser.state_dict()["state"].items()
            for moment, value in moments.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._parts]
        for name, value in tensors.items():
            part, parameter, moment = name.split(".")
            states[int(part)].setdefault(int(parameter), {})[moment] = value
        for optimiser, state in zip(self._parts, states, strict=True):
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})


def _is_block_matrix(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and any(block in f".{name}" for block in _BLOCKS)
