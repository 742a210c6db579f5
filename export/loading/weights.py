"""Matches stored weights with those a model wants, strictly: what is missing, left over or misshapen is named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.mapped_weight import MAPPED_BYTES, MappedWeight
from saccade.export.loading.shards import StoredWeights, some
from saccade.export.loading.strange_weights import strangeness
from saccade.proto.errors import CheckpointError

_PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class PlannedWeight:
    """A weight of ours and what it is made of; nothing is read yet.

    Args:
        stored: Names of the weight's stored parts, joined along the first axis.
        shape: Shape of the whole weight.
        is_one_plus: 1 is added to every value.
    """

    stored: tuple[str, ...]
    shape: tuple[int, ...]
    is_one_plus: bool

    def read(self, weights: StoredWeights) -> Tensor:
        """Return the weight, float32.

        Raises:
            CheckpointError: A value is not finite, or is stored as a number that means something only with a scale.
        """
        self.check(weights)
        return self.join(weights)

    def check(self, weights: StoredWeights) -> None:
        """Look at every value where it lies in the file; nothing is copied, so that memory is not cut to pieces.

        Raises:
            CheckpointError: A value is not finite, or is stored as a number that means something only with a scale.
        """
        for name in self.stored:
            part = weights.read(name)
            if part.dtype not in _PLAIN:
                raise CheckpointError(
                    f"{name}: expected float32, float16, bfloat16 or float64, found {str(part.dtype)[6:]}; quantised "
                    "checkpoints are not read, take the one before quantisation."
                )
            extremes = torch.stack(part.aminmax()) if part.numel() else torch.zeros(1)  # NaN is in both
            if not bool(torch.isfinite(extremes.to(torch.float32)).all()):
                raise CheckpointError(
                    f"expected finite weights, found NaN or infinity in {', '.join(self.stored)}."
                )

    def join(self, weights: StoredWeights) -> Tensor:
        """Return the weight, float32, without the checks of :meth:`check`."""
        parts = [weights.read(name) for name in self.stored]
        whole = (parts[0] if len(parts) == 1 else torch.cat(parts)).to(torch.float32).reshape(self.shape)
        return whole + 1.0 if self.is_one_plus else whole

    def is_as_stored(self, weights: StoredWeights) -> bool:
        """Whether what is read is the file's memory, not a copy."""
        is_whole = len(self.stored) == 1 and not self.is_one_plus
        return is_whole and weights.read(self.stored[0]).dtype == torch.float32


def plan_weights(
    wanted: Mapping[str, tuple[int, ...]], weights: StoredWeights, rules: KeyRules
) -> dict[str, PlannedWeight]:
    """Find what each wanted weight is made of.

    Args:
        wanted: Our names and shapes.
        weights: The checkpoint's weights.
        rules: How the family's stored names become ours.

    Raises:
        CheckpointError: Weights are missing, left over, there twice, or of another shape.
    """
    parts: dict[str, dict[int, str]] = {}
    leftover: list[str] = []
    shared = set(rules.ties.values())
    for stored in weights:
        name, number = rules.ours(stored)
        if name in wanted or name in shared:
            if number in parts.setdefault(name, {}):
                raise CheckpointError(
                    f"expected each weight once, found {name!r} as {parts[name][number]!r} and as {stored!r}."
                )
            parts[name][number] = stored
        elif not rules.is_unused(name):
            leftover.append(stored)
    for name, other in rules.ties.items():
        if name in wanted and name not in parts and other in parts:
            parts[name] = parts[other]
    missing = [name for name in wanted if name not in parts]
    if missing or leftover:
        raise CheckpointError(
            f"expected exactly the weights that the configuration describes, found {some('missing', missing)} and "
            f"{some('left over', leftover)}; {strangeness(missing, leftover)}"
        )
    planned = {
        name: PlannedWeight(
            tuple(parts[name][n] for n in sorted(parts[name])), shape, rules.is_one_plus(name)
        )
        for name, shape in wanted.items()
    }
    wrong = list(_misshapen(planned, weights))
    if wrong:
        raise CheckpointError(
            f"expected the shapes that the configuration gives, found {some('wrong', wrong)}."
        )
    return planned


def load_weights(model: nn.Module, weights: StoredWeights, rules: KeyRules, *, mapped: bool = False) -> None:
    """Give a model on the meta device its weights, float32.

    Args:
        model: A model of ours, every weight on the meta device.
        weights: The checkpoint's weights.
        rules: How the family's stored names become ours.
        mapped: Large weights stay in the files and are read where they are used: for models too large for memory.

    Raises:
        CheckpointError: Weights are missing, left over, there twice, of another shape, or not finite.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    planned = plan_weights(wanted, weights, rules)
    read = _mapped if mapped else PlannedWeight.read
    model.load_state_dict(
        {name: read(plan, weights) for name, plan in planned.items()}, strict=True, assign=True
    )


def hold_weights(model: nn.Module) -> None:
    """Read every mapped weight of a model into memory."""
    for part in model.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if isinstance(parameter, MappedWeight):
                part.register_parameter(name, nn.Parameter(parameter.read(), requires_grad=False))


def weight_bytes(model: nn.Module) -> int:
    """Return the size of a model's weights, read or not."""
    return sum(parameter.nbytes for parameter in model.parameters())


def _mapped(plan: PlannedWeight, weights: StoredWeights) -> Tensor:
    """Check a weight, and leave it in its file if it is large."""
    if 4 * math.prod(plan.shape) < MAPPED_BYTES or plan.is_as_stored(weights):
        return plan.read(weights)
    plan.check(weights)
    return MappedWeight(plan.shape, partial(plan.join, weights))


def _misshapen(planned: Mapping[str, PlannedWeight], weights: StoredWeights) -> Iterator[str]:
    for name, plan in planned.items():
        shapes = [weights.shape(stored) for stored in plan.stored]
        joined = shapes[0]
        if len(shapes) > 1:
            if len({shape[1:] for shape in shapes}) != 1:
                yield f"{name} (expected parts alike, found {[list(shape) for shape in shapes]})"
                continue
            joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        if _without_leading_ones(joined) != _without_leading_ones(plan.shape):
            yield f"{name} (expected {list(plan.shape)}, found {list(joined)})"


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """``(1, 1, n)`` and ``(n,)`` hold the same: transformers and timm differ in that for tables and class tokens."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape
