"""What torch counts while a module pretends to run: the judge of the formulas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.lowering.unread_weights import unread_weights


def count_macs(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Return the multiply-accumulates of a module; nothing is computed, and no mapped weight is read.

    Args:
        module: Module that pretends to run.
        inputs: Inputs of the module; only shapes and dtypes matter.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with (
        torch.no_grad(),
        unread_weights(module, mode),
        mode,
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        module(*(mode.from_tensor(x) for x in inputs))
    return int(counter.get_total_flops()) // 2
