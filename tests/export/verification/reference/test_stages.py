"""What a reference tells: arrays under the frame's number, and what modules and methods gave on the way."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from saccade.export.verification.reference.stages import Stages, listen, pixels_last, wrap


def test_arrays_are_told_frame_by_frame() -> None:
    stages = Stages()
    stages.put("logits", torch.ones(2, dtype=torch.bfloat16))
    stages.frame = 1
    stages.put("prompt tokens", torch.tensor([1, 2]))
    assert {name: array.dtype for name, array in stages.arrays.items()} == {
        "0/logits": np.float32,
        "1/prompt tokens": np.int64,
    }


def test_modules_and_methods_are_listened_to() -> None:
    module = nn.Linear(2, 2)
    given, gave = listen(module, to_input=True), listen(module)
    told = wrap(module, "extra_repr")
    x = torch.ones(1, 2)
    y = module(x)
    assert torch.equal(given[0], x) and torch.equal(gave[0], y)
    assert module.extra_repr() == told[0]


def test_channels_come_last() -> None:
    assert pixels_last(torch.zeros(2, 3, 4, 5)).shape == (2, 4, 5, 3)
