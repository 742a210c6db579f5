"""The tabletop in motion: physics, state, success. No rendering, no gymnasium.

Actions are physical: ``(dx, dy, dz, gripper)``, float32 ``(4,)``; displacement of the commanded TCP in metres per
control step, gripper command 0 (close) to 1 (open). One control step is 50 ms.
"""

from __future__ import annotations

import mujoco
import numpy as np

from saccade.sim.tabletop import arm, scene
from saccade.sim.tabletop.goals import goal_holds
from saccade.sim.tabletop.lighting import STEADY
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.tasks import Layout, Task, feasible_tasks

CONTROL_HZ = 20.0
SUBSTEPS = round(1 / (CONTROL_HZ * scene.TIMESTEP_S))
"""Physics steps in a control step."""
HORIZON = 160
"""Control steps until an episode is given up (8 s)."""
HOLD_STEPS = 4
"""Control steps for which the goal must hold."""

_MAX_LEAD_M = 0.04
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_BELT = "belt"


class World:
    """One table; reset it as often as you like.

    Args:
        table: What lies on it, and how it looks.

    Attributes:
        table: The table.
        task: What is to be done in this episode.
        layout: Where things were at the start of the episode.
        ticks: How many physics steps were run since reset.
    """

    task: Task
    layout: Layout

    def __init__(self, table: Table = BUNDLED) -> None:
        self.table = table
        self.model = table.build_model()
        self.data = mujoco.MjData(self.model)
        self.ticks = self._held = 0
        self._lighting = STEADY
        model = self.model
        things = range(len(table.shapes))
        self._thing_body = [model.body(f"thing_{i}").id for i in things]
        self._thing_joint = [model.joint(f"thing_{i}") for i in things]
        self._zone_mocap = [int(model.body(f"zone_{i}").mocapid[0]) for i in range(table.num_zones)]
        self._item_mocap = [
            int(model.body(f"distractor_{i}").mocapid[0]) for i in range(scene.NUM_DISTRACTORS)
        ]
        names = ("x", "y", "z", "finger_left", "finger_right")
        self._arm_qpos = [int(model.joint(name).qposadr[0]) for name in names]
        fields = ("geom_rgba", "geom_matid", "mat_rgba", "cam_pos", "cam_quat", "light_diffuse", "light_pos")
        self._look = {field: getattr(model, field).copy() for field in fields}
        self._lamps = model.light_diffuse.copy()

    def reset(self, rng: np.random.Generator, template: str | None = None) -> None:
        """Start an episode: a new layout, look, arm pose and task.

        Args:
            rng: Source of all randomness of the episode.
            template: Task template, one of the table's; None = drawn at random.
        """
        table, model = self.table, self.model
        self.layout = table.sample_layout(rng)
        template = template or table.templates[rng.integers(len(table.templates))]
        choices = feasible_tasks(self.layout, template)
        self.task = choices[rng.integers(len(choices))]
        mujoco.mj_resetData(model, self.data)
        self._place_objects()
        for field, value in self._look.items():
            getattr(model, field)[:] = value
        self._lighting = table.paint(model, self.layout, rng)
        self._lamps = model.light_diffuse.copy()
        self._home_arm(rng)
        mujoco.mj_forward(model, self.data)
        self._shine()
        self.ticks = self._held = 0

    def step(self, action: np.ndarray) -> None:
        """Advance one control step. Values beyond the arm's limits are clipped, as its controller would.

        Args:
            action: float32 ``(4,)``: dx, dy, dz in metres, gripper 0 (close) to 1 (open).
        """
        control = self.data.ctrl
        tcp = self.tcp()
        target = control[:3] + np.clip(action[:3], -arm.MAX_STEP_M, arm.MAX_STEP_M)
        target = np.clip(target, tcp - _MAX_LEAD_M, tcp + _MAX_LEAD_M)
        control[:3] = np.clip(
            target, self.model.actuator_ctrlrange[:3, 0], self.model.actuator_ctrlrange[:3, 1]
        )
        control[3:] = arm.FINGER_OPEN_M if action[3] > 0.5 else arm.FINGER_CLOSED_M
        self.run_on(SUBSTEPS)

    def run_on(self, ticks: int) -> None:
        """Let time pass while the arm's last command stands.

        Args:
            ticks: How many physics steps of ``scene.TIMESTEP_S`` pass.
        """
        mujoco.mj_step(self.model, self.data, ticks)
        self.ticks += ticks
        self._shine()
        self._held = self._held + ticks if self.goal_holds(self.task) else 0

    @property
    def steps(self) -> int:
        """How many control steps have passed since reset."""
        return self.ticks // SUBSTEPS

    @property
    def succeeded(self) -> bool:
        """Whether the goal has held for ``HOLD_STEPS`` control steps."""
        return self._held >= HOLD_STEPS * SUBSTEPS

    @property
    def out_of_time(self) -> bool:
        """Whether the horizon is reached."""
        return self.steps >= HORIZON

    def is_over(self) -> bool:
        """Whether the episode has ended: success, or out of time."""
        return self.succeeded or self.out_of_time

    def tcp(self) -> np.ndarray:
        """Return the tool centre point, ``(3,)`` metres."""
        return self.data.qpos[self._arm_qpos[:3]].copy()

    def commanded(self) -> np.ndarray:
        """Return the commanded tool centre point, ``(3,)`` metres."""
        return self.data.ctrl[:3].copy()

    def gripper_opening(self) -> float:
        """Return the distance between the fingers, metres."""
        return float(self.data.qpos[self._arm_qpos[3]] + self.data.qpos[self._arm_qpos[4]])

    def proprio(self) -> np.ndarray:
        """Return tool centre point x, y, z and gripper opening: float32 ``(4,)`` metres."""
        return np.array([*self.tcp(), self.gripper_opening()], np.float32)

    def thing(self, index: int) -> np.ndarray:
        """Return the centre of a thing, ``(3,)`` metres; far below the table when absent."""
        return self.data.xpos[self._thing_body[index]].copy()

    def undisturbed(self, index: int) -> np.ndarray:
        """Return where a thing would be now if nobody had touched it, ``(2,)`` metres: at rest, or riding along."""
        start = self.layout.thing_xy[index]
        return start + self.drift(index) * self.data.time

    def drift(self, index: int) -> np.ndarray:
        """Return how fast an untouched thing moves, ``(2,)`` metres per second."""
        return np.array([0.0, self.layout.belt_mps if index in self.layout.riders else 0.0])

    def zone(self, index: int) -> np.ndarray:
        """Return the centre of a zone, ``(3,)`` metres."""
        return self.data.mocap_pos[self._zone_mocap[index]].copy()

    def distractor(self, index: int) -> np.ndarray:
        """Return the centre of a distractor, ``(3,)`` metres; far below the table when absent."""
        return self.data.mocap_pos[self._item_mocap[index]].copy()

    def snapshot(self) -> tuple[np.ndarray, int, int]:
        """Return everything that :meth:`restore` needs to come back to this moment of the episode."""
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state, self.ticks, self._held

    def restore(self, snapshot: tuple[np.ndarray, int, int]) -> None:
        """Return to a moment of the *same* episode."""
        state, self.ticks, self._held = snapshot
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        mujoco.mj_forward(self.model, self.data)
        self._shine()

    def goal_holds(self, task: Task) -> bool:
        """Return whether ``task`` is done as things are now; no other thing may have been moved."""
        return goal_holds(self, task)

    def _place_objects(self) -> None:
        layout, data = self.layout, self.data
        for index, joint in enumerate(self._thing_joint):
            address, speed = int(joint.qposadr[0]), int(joint.dofadr[0])
            half = layout.thing_yaw[index] / 2
            if index not in layout.present:
                data.qpos[address : address + 7] = [*_absent(index), 1, 0, 0, 0]
                continue
            rides = index in layout.riders
            height = scene.THING_HALF_M + (scene.BELT_TOP_M if rides else 0.0)
            data.qpos[address : address + 7] = [
                *layout.thing_xy[index], height, np.cos(half), 0, 0, np.sin(half)
            ]  # fmt: skip
            data.qvel[speed : speed + 2] = self.drift(index)
        if layout.riders:
            data.qvel[int(self.model.joint(_BELT).dofadr[0])] = layout.belt_mps
        for index, mocap in enumerate(self._zone_mocap):
            data.mocap_pos[mocap] = [*layout.zone_xy[index], 0.001]
        for index, mocap in enumerate(self._item_mocap):
            xy = layout.distractor_xy[index]
            data.mocap_pos[mocap] = [*xy, 0.021] if np.isfinite(xy).all() else scene.PARKED

    def _home_arm(self, rng: np.random.Generator) -> None:
        home = np.array([0.0, 0.0, 0.17]) + rng.uniform(-1, 1, 3) * [0.08, 0.10, 0.03]
        self.data.qpos[self._arm_qpos] = [*home, arm.FINGER_OPEN_M, arm.FINGER_OPEN_M]
        self.data.ctrl[:] = [*home, arm.FINGER_OPEN_M, arm.FINGER_OPEN_M]

    def _shine(self) -> None:
        """Set the lamps as they are at this moment."""
        self.model.light_diffuse[:] = self._lamps * self._lighting.brightness(self.data.time)


def _absent(index: int) -> tuple[float, float, float]:
    """Where a thing waits that is not on the table: on the floor behind the scene camera."""
    return (2.0, 0.2 * index, -0.5 + scene.THING_HALF_M)
