"""The tabletop behind gymnasium's API."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import gymnasium
import numpy as np

from saccade.proto.errors import UnknownTaskError
from saccade.sim.tabletop.arm import FINGER_OPEN_M, MAX_STEP_M, REACH_M, TCP_MAX_Z_M
from saccade.sim.tabletop.cameras import VIEWS, Cameras
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.tasks import instruction
from saccade.sim.tabletop.world import CONTROL_HZ, World

MAX_INSTRUCTION_CHARACTERS = 64

Observation = dict[str, Any]


class TabletopEnv(gymnasium.Env[Observation, np.ndarray]):
    """A language-conditioned tabletop with a Cartesian arm.

    Observation: ``images`` (one uint8 ``(image_px, image_px, 3)`` RGB image for each view), ``proprio`` (float32
    ``(4,)``: TCP x, y, z and gripper opening, metres), ``instruction`` (text).
    Action: float32 ``(4,)``: dx, dy, dz in metres per control step, gripper 0 (close) to 1 (open); 20 Hz.
    Reward: 1 in the step that succeeds, else 0. ``terminated`` on success, ``truncated`` at the horizon.

    Args:
        task: Task template, one of the table's; None = a random one in each episode.
        table: The table to play on.
        image_px: Height and width of the images, in pixels; None = the table's own.

    Raises:
        UnknownTaskError: ``task`` is not a template.
        GraphicsError: The machine cannot render.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(CONTROL_HZ)}  # noqa: RUF012 - gymnasium's contract
    render_mode = "rgb_array"

    def __init__(
        self, task: str | None = None, *, table: Table = BUNDLED, image_px: int | None = None
    ) -> None:
        if task is not None and task not in table.templates:
            raise UnknownTaskError(
                f"unknown task: expected one of {', '.join(table.templates)}, found {task!r}"
            )
        self.task = task
        self.world = World(table)
        image_px = image_px or table.image_px
        self.cameras = Cameras(self.world, image_px)
        image = gymnasium.spaces.Box(0, 255, (image_px, image_px, 3), np.uint8)
        reach = np.array([*REACH_M, TCP_MAX_Z_M, 2 * FINGER_OPEN_M], np.float32) * 1.5
        self.observation_space = gymnasium.spaces.Dict(
            images=gymnasium.spaces.Dict(dict.fromkeys(VIEWS, image)),
            proprio=gymnasium.spaces.Box(-reach, reach, dtype=np.float32),
            instruction=gymnasium.spaces.Text(MAX_INSTRUCTION_CHARACTERS, charset=ascii_lowercase + " "),
        )
        limits = np.array([MAX_STEP_M] * 3, np.float32)
        self.action_space = gymnasium.spaces.Box(
            np.append(-limits, np.float32(0)), np.append(limits, np.float32(1)), dtype=np.float32
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; the same seed gives the same episode on one version of MuJoCo."""
        super().reset(seed=seed)
        self.world.reset(self.np_random, self.task)
        return self.observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance one control step and render."""
        self.advance(action)
        done = self.world.succeeded
        return self.observe(), float(done), done, self.world.out_of_time and not done, self._info()

    def advance(self, action: np.ndarray) -> bool:
        """Advance one control step without rendering; return whether the episode goes on."""
        self.world.step(action)
        return not self.world.is_over()

    def observe(self) -> Observation:
        """Render the observation of this moment."""
        return {
            "images": self.cameras.render_all(),
            "proprio": self.world.proprio(),
            "instruction": instruction(self.world.task, self.world.layout),
        }

    def render(self) -> np.ndarray:
        """Render the scene view, uint8 ``(image_px, image_px, 3)``."""
        return self.cameras.render(VIEWS[0])

    def close(self) -> None:
        """Free the renderer."""
        self.cameras.close()

    def _info(self) -> dict[str, Any]:
        return {
            "template": self.world.task.template,
            "success": self.world.succeeded,
            "steps": self.world.steps,
        }
