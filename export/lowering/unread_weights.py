"""Graphs are captured from shapes: while that happens, weights that stay in their files are replaced by fakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from saccade.export.loading.mapped_weight import MappedWeight


@contextmanager
def unread_weights(module: nn.Module, mode: FakeTensorMode | None = None) -> Iterator[dict[str, Tensor]]:
    """Replace the mapped weights of a module; reading a fake is an error of torch.

    Args:
        module: Module of which mapped weights are replaced; they are back at the end.
        mode: Mode that makes the fakes; None = a new one.

    Yields:
        Every parameter by name, as it was: mapped ones unread.
    """
    fakes = mode or FakeTensorMode(allow_non_fake_inputs=True)
    whole: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    replaced = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if isinstance(parameter, MappedWeight)
    ]
    try:
        for part, name, parameter in replaced:
            with fakes:
                fake = torch.empty(parameter.shape)
            part.register_parameter(name, nn.Parameter(fake, requires_grad=False))
        yield whole
    finally:
        for part, name, parameter in replaced:
            part.register_parameter(name, parameter)
