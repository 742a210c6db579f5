"""What the manifest says of the token-selection policy inside the graphs: its name, and when the host runs ``full``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saccade.proto.errors import ManifestError

MAX_GATE_CHUNKS = 1000


@dataclass(frozen=True)
class GateSpec:
    """The motion gate: the arm's recent speed decides between the asked profile and ``full``.

    The rule is in :mod:`saccade.runtime.guards.motion_gate`.

    Args:
        window: How many action chunks a displacement is added up over.
        look_back: How many earlier windows the current one is compared with.
    """

    window: int
    look_back: int

    def __post_init__(self) -> None:
        if not (1 <= self.window <= MAX_GATE_CHUNKS and 1 <= self.look_back <= MAX_GATE_CHUNKS):
            raise ManifestError(
                f"expected window and look_back in 1..{MAX_GATE_CHUNKS}, found {self.window} and {self.look_back}."
            )


@dataclass(frozen=True)
class CameraCutSpec:
    """The camera cut: a view that suddenly shows another picture decides between the asked profile and ``full``.

    The rule is in :mod:`saccade.runtime.guards.camera_cut`.

    Args:
        change: Change of any view from which the control step runs ``full``, a share of its pixels.
    """

    change: float

    def __post_init__(self) -> None:
        if not 0.0 < self.change <= 1.0:
            raise ManifestError(f"expected change above 0 and at most 1, found {self.change}.")


@dataclass(frozen=True)
class PolicySpec:
    """The token-selection policy inside the graphs, and when the host must run ``full`` instead.

    Args:
        name: Name of the policy in the registry.
        config: Settings of the policy, for people; the runtime does not read them.
        warmup_steps: How many control steps after a reset run ``full``.
        refresh_every: Every n-th control step runs ``full``; 0 means never.
        gate: Rule that runs ``full`` while the arm is slow too; None = whatever the arm does.
        camera_cut: Rule that runs ``full`` when a view suddenly shows another picture; None = whatever it shows.
    """

    name: str
    config: dict[str, Any]
    warmup_steps: int
    refresh_every: int
    gate: GateSpec | None = None
    camera_cut: CameraCutSpec | None = None

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or self.refresh_every < 0:
            raise ManifestError(
                f"expected warmup_steps and refresh_every >= 0, "
                f"found {self.warmup_steps} and {self.refresh_every}."
            )
