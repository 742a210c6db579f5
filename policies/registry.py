"""Every token-selection policy by name: those of this package in a literal table, those of others by entry point.

Another package registers a policy without touching this one::

    [project.entry-points."saccade.policies"]
    my_policy = "my_package.my_policy:MyPolicy"

Policies over entries of a KV cache have a table and an entry-point group of their own, ``saccade.kv_policies``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from saccade.policies.base import ModelShape, TokenPolicy
from saccade.policies.config import suggest
from saccade.policies.kv.base import KvPolicy, KvShape
from saccade.proto.errors import PolicyError

ENTRY_POINTS = "saccade.policies"
KV_ENTRY_POINTS = "saccade.kv_policies"

POLICIES: Mapping[str, str] = {
    "adp": "saccade.policies.methods.adp:Adp",
    "center_crop": "saccade.policies.methods.center_crop:CenterCrop",
    "divprune": "saccade.policies.methods.divprune:DivPrune",
    "fastv": "saccade.policies.methods.fastv:FastV",
    "foveate": "saccade.policies.methods.foveate:Foveate",
    "keep_all": "saccade.policies.methods.keep_all:KeepAll",
    "quota": "saccade.policies.methods.quota:Quota",
    "random_keep": "saccade.policies.methods.random_keep:RandomKeep",
    "sparsevlm": "saccade.policies.methods.sparsevlm:SparseVlm",
    "spatten": "saccade.policies.methods.spatten:SpAtten",
    "todre": "saccade.policies.methods.todre:ToDre",
    "transprune": "saccade.policies.methods.transprune:TransPrune",
    "vflowopt": "saccade.policies.methods.vflowopt:VFlowOpt",
    "visionzip": "saccade.policies.methods.visionzip:VisionZip",
    "vla_cache": "saccade.policies.methods.vla_cache:VlaCache",
    "vla_pruner": "saccade.policies.methods.vla_pruner:VlaPruner",
    "vtc_cls": "saccade.policies.methods.vtc_cls:VtcCls",
    "zero_tprune": "saccade.policies.methods.zero_tprune:ZeroTPrune",
}
"""This package's own policies: name to ``module:class``."""

KV_POLICIES: Mapping[str, str] = {
    "keep_all_kv": "saccade.policies.kv.keep_all_kv:KeepAllKv",
    "scissorhands": "saccade.policies.kv.scissorhands:Scissorhands",
    "spatten_kv": "saccade.policies.kv.spatten_kv:SpAttenKv",
    "token_select": "saccade.policies.kv.token_select:TokenSelect",
}
"""This package's own policies over entries of a KV cache: name to ``module:class``."""


def known_policies() -> dict[str, str]:
    """Return every policy that can be built, name to ``module:class``; this package's own names come first.

    Raises:
        PolicyError: Another package registers a name that is taken.
    """
    return _known(POLICIES, ENTRY_POINTS)


def known_kv_policies() -> dict[str, str]:
    """Return every KV-cache policy that can be built, name to ``module:class``; the package's own names come first.

    Raises:
        PolicyError: Another package registers a name that is taken.
    """
    return _known(KV_POLICIES, KV_ENTRY_POINTS)


def policy_class(name: str) -> type[TokenPolicy]:
    """Return the class of a policy.

    Raises:
        PolicyError: The name is unknown, or what it stands for cannot be loaded or is no policy of that name.
    """
    found: type[TokenPolicy] = _load(name, known_policies(), TokenPolicy, "token-selection policy")
    return found


def kv_policy_class(name: str) -> type[KvPolicy]:
    """Return the class of a KV-cache policy.

    Raises:
        PolicyError: The name is unknown, or what it stands for cannot be loaded or is no policy of that name.
    """
    found: type[KvPolicy] = _load(name, known_kv_policies(), KvPolicy, "KV-cache policy")
    return found


def build_policy(name: str, config: Mapping[str, object], shape: ModelShape) -> TokenPolicy:
    """Build a policy for one model.

    Args:
        name: Name of a known policy.
        config: Options as plain JSON values, e.g. from a manifest; missing ones take their defaults.
        shape: Layers, grid and towers of the model.

    Returns:
        The policy; ``policy.config.as_dict()`` is its full configuration, defaults resolved.

    Raises:
        PolicyError: The name or an option is unknown, or a value has the wrong type or range.
    """
    found = policy_class(name)
    return found(found.options.from_options(name, config), shape)


def build_kv_policy(name: str, config: Mapping[str, object], shape: KvShape) -> KvPolicy:
    """Build a KV-cache policy for one model and capacity.

    Args:
        name: Name of a known KV-cache policy.
        config: Options as plain JSON values; missing ones take their defaults.
        shape: Layers, heads and cache of the model.

    Raises:
        PolicyError: The name or an option is unknown, or a value has the wrong type or range.
    """
    found = kv_policy_class(name)
    return found(found.options.from_options(name, config), shape)


def _known(own: Mapping[str, str], group: str) -> dict[str, str]:
    """Add what other packages register under ``group``."""
    known = dict(own)
    for entry in entry_points(group=group):
        if known.get(entry.name, entry.value) != entry.value:
            raise PolicyError(
                f"expected each policy name once, found {entry.name!r} as {known[entry.name]} and as {entry.value}; "
                "rename one of them"
            )
        known[entry.name] = entry.value
    return known


def _load(name: str, known: Mapping[str, str], base: type[Any], kind: str) -> Any:
    """Resolve one name to a class of ``base``."""
    if name not in known:
        raise PolicyError(f"no {kind} is called {name!r}; {suggest(name, known)}")
    try:
        found = pkgutil.resolve_name(known[name])
    except (ImportError, AttributeError, ValueError) as error:
        raise PolicyError(
            f"policy {name!r} is registered as {known[name]}, which cannot be loaded: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base) and getattr(found, "name", None) == name):
        raise PolicyError(
            f"policy {name!r} is registered as {known[name]}: expected a {base.__name__} whose name is {name!r}, found "
            f"{getattr(found, 'name', found)!r}"
        )
    return found
