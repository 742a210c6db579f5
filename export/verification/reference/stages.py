"""What a reference computed on its way, frame by frame, under names that both sides know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Stages:
    """Arrays by frame and stage, as ``FRAME/STAGE``."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.frame = 0

    def put(self, stage: str, value: Tensor | NDArray[Any] | Sequence[int]) -> None:
        """Keep what one stage gave for the frame at hand.

        Args:
            stage: Name of the stage.
            value: What it gave; floating point becomes float32.
        """
        array = value.detach().float().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if isinstance(value, Tensor) and not value.is_floating_point():
            array = value.detach().numpy()
        self.arrays[f"{self.frame}/{stage}"] = array


def listen(module: nn.Module, *, to_input: bool = False) -> list[Tensor]:
    """Return a list that fills with what a module gives, or takes first, at every call from now on.

    Args:
        module: Any module.
        to_input: Keep the first input instead of the output.
    """
    heard: list[Tensor] = []
    if to_input:
        module.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].detach()))
    else:
        module.register_forward_hook(lambda _, __, output: heard.append(output.detach()))
    return heard


def wrap(owner: Any, name: str) -> list[Any]:
    """Return a list that fills with what a method returns, at every call from now on.

    Args:
        owner: Object whose method is listened to.
        name: Name of the method.
    """
    heard: list[Any] = []
    method: Callable[..., Any] = getattr(owner, name)

    def told(*arguments: Any, **others: Any) -> Any:
        heard.append(method(*arguments, **others))
        return heard[-1]

    setattr(owner, name, told)
    return heard


def pixels_last(pictures: Tensor) -> Tensor:
    """``(pictures, channels, height, width)`` -> ``(pictures, height, width, channels)``."""
    return torch.movedim(pictures, 1, -1)
