"""Light that changes while an episode runs, and a scene camera that is mounted a little differently each time."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, tau

import mujoco
import numpy as np

from saccade.sim.tabletop.scene import SCENE_CAMERA


@dataclass(frozen=True)
class Lighting:
    """How bright the lamps are in the course of an episode.

    Args:
        depth: Share of the brightness that comes and goes, 0 to 1; 0 = steady.
        period_s: How long one wave takes, seconds.
        phase: Where in the wave the episode begins, 0 to 1.
    """

    depth: float = 0.0
    period_s: float = 1.0
    phase: float = 0.0

    def brightness(self, time_s: float) -> float:
        """Return the factor on every lamp after ``time_s`` seconds."""
        return 1 - self.depth * (1 - cos(tau * (time_s / self.period_s + self.phase))) / 2


STEADY = Lighting()


def jog_camera(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Move and turn the scene camera by a hair."""
    camera = model.camera(SCENE_CAMERA).id
    model.cam_pos[camera] += rng.uniform(-0.005, 0.005, 3)
    turn = np.zeros(4)
    axis = rng.normal(size=3)
    mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), np.deg2rad(rng.uniform(-0.4, 0.4)))
    tilted = np.zeros(4)
    mujoco.mju_mulQuat(tilted, model.cam_quat[camera], turn)
    model.cam_quat[camera] = tilted
