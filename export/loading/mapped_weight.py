"""A weight that stays in its file: it looks like a float32 tensor, and is read and widened anew wherever it is used.

A 7B model in float32 is twice a small machine's memory; its bfloat16 files, mapped, are none of it. PyTorch runs such
a model as any other, and each weight is there in float32 only while its operator runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

MAPPED_BYTES = 1 << 20
"""Smaller weights are read once: they are many, and together little."""
_RENAMING = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)


class MappedWeight(Tensor):
    """A float32 tensor without memory of its own; not for training.

    Args:
        shape: Shape of the weight.
        read: Returns the whole weight, float32, from its file.
    """

    read: Callable[[], Tensor]

    def __new__(cls, shape: Sequence[int], read: Callable[[], Tensor]) -> MappedWeight:
        """Make the tensor; nothing is read."""
        weight: MappedWeight = Tensor._make_wrapper_subclass(  # noqa: SLF001 -- how torch has subclasses made
            cls, tuple(shape), dtype=torch.float32, device=torch.device("cpu"), requires_grad=False
        )
        weight.read = read
        return weight

    def __init__(self, shape: Sequence[int], read: Callable[[], Tensor]) -> None:
        """Do nothing: tensors are made in ``__new__``."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator on what the file holds."""
        del types
        if func in _RENAMING:
            return cls(args[0].shape, args[0].read)
        # A view made in inference mode cannot be of a tensor made outside; gradients are the caller's business.
        with torch.inference_mode(False), torch.no_grad():
            args, kwargs = tree_map_only(
                MappedWeight, lambda weight: weight.read(), (args, dict(kwargs or {}))
            )
            result = func(*args, **kwargs)
            if isinstance(result, Tensor) and 2 * result.nbytes < result.untyped_storage().nbytes():
                return result.clone()  # a row must not keep the whole table in memory
            return result

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        """Name the class and the shape; reading a file to print a weight would surprise."""
        del tensor_contents
        return f"MappedWeight({list(self.shape)})"
