"""Every token-selection policy by name. A literal table: searchable, and import order does not matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saccade.policies.base import DecoderShape, TokenPolicy
from saccade.policies.config import PolicyConfig, suggest
from saccade.policies.keep_all import KeepAll, KeepAllConfig
from saccade.policies.random_keep import RandomKeep, RandomKeepConfig
from saccade.policies.vla_pruner import VlaPruner, VlaPrunerConfig
from saccade.proto.errors import PolicyError


@dataclass(frozen=True)
class PolicyEntry:
    """How to build one policy.

    Args:
        config: Its options.
        build: Its class, called with the options and the decoder's shape.
    """

    config: type[PolicyConfig]
    build: Callable[[Any, DecoderShape], TokenPolicy]


POLICIES: Mapping[str, PolicyEntry] = {
    "keep_all": PolicyEntry(KeepAllConfig, KeepAll),
    "random_keep": PolicyEntry(RandomKeepConfig, RandomKeep),
    "vla_pruner": PolicyEntry(VlaPrunerConfig, VlaPruner),
}


def build_policy(name: str, config: Mapping[str, object], shape: DecoderShape) -> TokenPolicy:
    """Build a policy for one decoder.

    Args:
        name: A key of ``POLICIES``.
        config: Options as plain JSON values, e.g. from a manifest; missing ones take their defaults.
        shape: Layers and token grid of the decoder.

    Returns:
        The policy; ``policy.config.as_dict()`` is its full configuration, defaults resolved.

    Raises:
        PolicyError: The name or an option is unknown, or a value has the wrong type or range.
    """
    entry = POLICIES.get(name)
    if entry is None:
        raise PolicyError(f"no token-selection policy is called {name!r}; {suggest(name, POLICIES)}")
    return entry.build(entry.config.from_options(name, config), shape)
