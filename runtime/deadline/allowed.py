"""Which profiles may be chosen: those that did almost as well as ``full`` in the closed loop, task by task."""

from __future__ import annotations

from saccade.proto.closed_loop import ClosedLoopReceipt
from saccade.proto.errors import ServeError
from saccade.proto.lowering_spec import CANONICAL
from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE

DEFAULT_SUCCESS_KEPT = 0.95
_FEWEST_EPISODES = 50
"""Episodes of a task below which a receipt proves nothing."""


def allowed_profiles(
    manifest: Manifest,
    named: tuple[str, ...] = (),
    *,
    lowering: str = CANONICAL,
    success_kept: float = DEFAULT_SUCCESS_KEPT,
) -> tuple[str, ...]:
    """Return the names of the profiles that a deadline may choose from, ``full`` among them.

    Args:
        manifest: Manifest of the bundle.
        named: Names that the operator answers for; empty = what the bundle's closed-loop receipt proves.
        lowering: Name of the form of the graphs that is served.
        success_kept: Share of the successes of ``full`` that a profile must have in *each* task, 0 to 1.

    Raises:
        UnknownProfileError: The bundle has no profile of that name.
        ServeError: No name was given, and the bundle has no receipt, or none that allows another profile than ``full``.
    """
    if named:
        return tuple(dict.fromkeys((FULL_PROFILE, *(manifest.profile(name).name for name in named))))
    remedy = "name them with --deadline-profile, or measure: saccade sim run BUNDLE --episodes 50 --receipt"
    receipt = manifest.closed_loop
    if receipt is None:
        raise ServeError(
            "expected profiles to choose from under a deadline, found a bundle without a closed-loop receipt: "
            f"{remedy}."
        )
    if receipt.lowering != lowering:
        raise ServeError(
            f"expected a closed-loop receipt of the lowering {lowering}, found one of {receipt.lowering}: {remedy}, "
            f"--lowering {lowering}."
        )
    allowed = tuple(
        profile.name
        for profile in manifest.profiles
        if profile.name == FULL_PROFILE or not _shortfalls(receipt, profile.name, success_kept)
    )
    if allowed == (FULL_PROFILE,):
        why = "; ".join(
            f"{profile.name}: {_shortfalls(receipt, profile.name, success_kept)[0]}"
            for profile in manifest.profiles
            if profile.name != FULL_PROFILE
        )
        raise ServeError(
            f"expected a profile besides {FULL_PROFILE} that kept {success_kept:.0%} of its successes in each task, "
            f"found none ({why or 'there is no other'}): {remedy}."
        )
    return allowed


def _shortfalls(receipt: ClosedLoopReceipt, profile: str, success_kept: float) -> list[str]:
    """Return what speaks against a profile, task by task."""
    full, found = receipt.outcomes.get(FULL_PROFILE, {}), receipt.outcomes.get(profile, {})
    if not full or full.keys() != found.keys():
        return ["it was not run on the same tasks as full"]
    short = []
    for task, of_full in full.items():
        here = found[task]
        if here.episodes != of_full.episodes or here.episodes < _FEWEST_EPISODES:
            short.append(
                f"{here.episodes} episodes of {task}, fewer than {_FEWEST_EPISODES} or not as many as full"
            )
        elif here.successes < success_kept * of_full.successes:
            short.append(f"{here.successes} of {here.episodes} in {task}, where full had {of_full.successes}")
    return short
