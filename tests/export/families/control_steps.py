"""What the tests of flow-matching families share: an embodiment for lerobot's tiny checkpoints, its control steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec
from saccade.runtime.observation import Observation

VIEWS = ("top", "wrist")
EMBODIMENT = Embodiment(
    name="tiny arm",
    license="Apache-2.0",
    views=VIEWS,
    proprio=VectorSpec(("x", "y", "gripper", "z", "yaw"), ("m", "m", "1", "m", "rad")),
    action=ActionSpec(("x", "y", "gripper", "z"), ("m", "m", "1", "m"), 6, 20.0, "absolute_ee"),
    # Random weights act wildly; the limiter is not what is tested here.
    limits=LimitsSpec((-1e4,) * 4, (1e4,) * 4, (2e4,) * 4),
)


@dataclass(frozen=True)
class ControlSteps:
    """Control steps of lerobot's own policy.

    Args:
        tasks: One for each episode.
        images: uint8 ``(episodes, steps, views, height, width, 3)``.
        states: float32 ``(episodes, steps, state_dim)``, physical units.
        noise: float32 ``(episodes, steps, chunk, action width)``.
        noise_seed: It follows from this one.
        actions: float32 ``(episodes, steps, chunk, action_dim)``, physical units.
    """

    tasks: tuple[str, ...]
    images: NDArray[np.uint8]
    states: NDArray[np.float32]
    noise: NDArray[np.float32]
    noise_seed: int
    actions: NDArray[np.float32]

    def observation(
        self, episode: int, step: int, *, captured_ns: int = 0, gives_noise: bool = False
    ) -> Observation:
        """Return one observation; in process it may bring its noise."""
        return Observation(
            images=dict(zip(VIEWS, self.images[episode, step], strict=True)),
            proprio=self.states[episode, step],
            captured_ns=captured_ns,
            sequence=step + 1,
            wants_telemetry=True,
            noise=self.noise[episode, step] if gives_noise else None,
        )


def read_steps(folder: Path) -> ControlSteps:
    """Read ``control.npz``."""
    with np.load(folder / "control.npz", allow_pickle=False) as stored:
        return ControlSteps(
            tuple(map(str, stored["tasks"])),
            stored["images"],
            stored["states"],
            stored["noise"],
            int(stored["noise_seed"]),
            stored["actions"],
        )


def with_embodiment(folder: Path) -> Path:
    """Put the embodiment beside a checkpoint."""
    write_embodiment(EMBODIMENT, folder)
    return folder
