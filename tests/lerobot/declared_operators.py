"""Lets torchvision be imported beside another build of torch: imported for what it does."""

from __future__ import annotations

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # its compiled half wants that build; what is missing is declared, and never called
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor"
        )
