"""The tabletop in motion: physics, state, success. No rendering, no gymnasium.

Actions are physical: ``(dx, dy, dz, gripper)``, float32 ``(4,)``; displacement of the commanded TCP in metres per
control step, gripper command 0 (close) to 1 (open). One control step is 50 ms.
"""

from __future__ import annotations

import mujoco
import numpy as np

from saccade.sim.tabletop import palette, scene
from saccade.sim.tabletop.layout import sample_layout
from saccade.sim.tabletop.tasks import DIRECTIONS, PUSH_DISTANCE_M, TEMPLATES, Layout, Task, feasible_tasks

CONTROL_HZ = 20.0
SUBSTEPS = round(1 / (CONTROL_HZ * scene.TIMESTEP_S))
MAX_STEP_M = 0.02
"""Largest commanded TCP displacement per control step and axis."""
HORIZON = 160
"""Control steps until an episode is given up (8 s)."""
HOLD_STEPS = 4
"""Control steps for which the goal must hold."""
ACTION_NAMES = ("dx", "dy", "dz", "gripper")
PROPRIO_NAMES = ("tcp_x", "tcp_y", "tcp_z", "gripper_opening")

_UNTOUCHED_M = 0.03
_EMPTY_AND_CLOSED_M = 0.03
"""Fingers closer than this hold nothing."""
_MAX_LEAD_M = 0.04
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class World:
    """One tabletop; reset it as often as you like.

    Attributes:
        task: What is to be done in this episode.
        layout: Where things were at the start of the episode.
        steps: How many control steps were run since reset.
    """

    task: Task
    layout: Layout

    def __init__(self) -> None:
        self.model = scene.build_model()
        self.data = mujoco.MjData(self.model)
        self.steps = 0
        self._held = 0
        model = self.model
        self._block_body = [model.body(f"block_{i}").id for i in range(scene.NUM_BLOCKS)]
        self._block_qpos = [int(model.joint(f"block_{i}").qposadr[0]) for i in range(scene.NUM_BLOCKS)]
        self._zone_mocap = [int(model.body(f"zone_{i}").mocapid[0]) for i in range(scene.NUM_ZONES)]
        self._item_mocap = [
            int(model.body(f"distractor_{i}").mocapid[0]) for i in range(scene.NUM_DISTRACTORS)
        ]
        names = ("x", "y", "z", "finger_left", "finger_right")
        self._arm_qpos = [int(model.joint(name).qposadr[0]) for name in names]
        self._look = {
            "geom_rgba": model.geom_rgba.copy(),
            "cam_pos": model.cam_pos.copy(),
            "cam_quat": model.cam_quat.copy(),
            "light_diffuse": model.light_diffuse.copy(),
            "light_pos": model.light_pos.copy(),
        }

    def reset(self, rng: np.random.Generator, template: str | None = None) -> None:
        """Start an episode: a new layout, look, arm pose and task.

        Args:
            rng: Source of all randomness of the episode.
            template: Task template, one of ``TEMPLATES``; None = drawn at random.
        """
        self.layout = sample_layout(rng)
        template = template or TEMPLATES[rng.integers(len(TEMPLATES))]
        choices = feasible_tasks(self.layout, template)
        self.task = choices[rng.integers(len(choices))]
        mujoco.mj_resetData(self.model, self.data)
        self._place_objects()
        self._randomise_look(rng)
        self._home_arm(rng)
        mujoco.mj_forward(self.model, self.data)
        self.steps = self._held = 0

    def step(self, action: np.ndarray) -> None:
        """Advance one control step. Values beyond the arm's limits are clipped, as its controller would.

        Args:
            action: float32 ``(4,)``: dx, dy, dz in metres, gripper 0 (close) to 1 (open).
        """
        control = self.data.ctrl
        tcp = self.tcp()
        target = control[:3] + np.clip(action[:3], -MAX_STEP_M, MAX_STEP_M)
        target = np.clip(target, tcp - _MAX_LEAD_M, tcp + _MAX_LEAD_M)
        control[:3] = np.clip(
            target, self.model.actuator_ctrlrange[:3, 0], self.model.actuator_ctrlrange[:3, 1]
        )
        control[3:] = scene.FINGER_OPEN_M if action[3] > 0.5 else scene.FINGER_CLOSED_M
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self.steps += 1
        self._held = self._held + 1 if self.goal_holds(self.task) else 0

    @property
    def succeeded(self) -> bool:
        """Whether the goal has held for ``HOLD_STEPS`` control steps."""
        return self._held >= HOLD_STEPS

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

    def block(self, index: int) -> np.ndarray:
        """Return the centre of a block, ``(3,)`` metres."""
        return self.data.xpos[self._block_body[index]].copy()

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
        return state, self.steps, self._held

    def restore(self, snapshot: tuple[np.ndarray, int, int]) -> None:
        """Return to a moment of the *same* episode."""
        state, self.steps, self._held = snapshot
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        mujoco.mj_forward(self.model, self.data)

    def goal_holds(self, task: Task) -> bool:
        """Return whether ``task`` is done as things are now; no other block may have been moved."""
        block, start = self.block(task.block), self.layout.block_xy[task.block]
        others = [
            i
            for i in range(scene.NUM_BLOCKS)
            if i not in (task.block, task.target if task.template == "stack" else -1)
        ]
        if any(np.linalg.norm(self.block(i)[:2] - self.layout.block_xy[i]) > _UNTOUCHED_M for i in others):
            return False
        is_open = self.gripper_opening() > 1.2 * (2 * scene.BLOCK_HALF_M)
        if task.template == "reach":
            gap = self.tcp() - block
            return bool(
                np.linalg.norm(gap[:2]) < 0.022
                and gap[2] < 0.05
                and self.gripper_opening() < _EMPTY_AND_CLOSED_M
                and np.linalg.norm(block[:2] - start) < _UNTOUCHED_M
            )
        if task.template == "push":
            direction = np.array(DIRECTIONS[task.direction])
            moved = block[:2] - start
            drift = abs(moved @ direction[::-1])
            return bool(
                moved @ direction > PUSH_DISTANCE_M and drift < 0.04 and block[2] < 1.3 * scene.BLOCK_HALF_M
            )
        if task.template == "place":
            inside = np.abs(block[:2] - self.zone(task.target)[:2]).max() < 0.05
            return bool(inside and block[2] < 1.3 * scene.BLOCK_HALF_M and is_open)
        base = self.block(task.target)
        on_top = abs(block[2] - base[2] - 2 * scene.BLOCK_HALF_M) < 0.012
        return bool(on_top and np.linalg.norm(block[:2] - base[:2]) < 0.035 and is_open)

    def _place_objects(self) -> None:
        layout, data = self.layout, self.data
        for index, address in enumerate(self._block_qpos):
            half = layout.block_yaw[index] / 2
            data.qpos[address : address + 7] = [
                *layout.block_xy[index], scene.BLOCK_HALF_M, np.cos(half), 0, 0, np.sin(half)
            ]  # fmt: skip
        for index, mocap in enumerate(self._zone_mocap):
            data.mocap_pos[mocap] = [*layout.zone_xy[index], 0.001]
        for index, mocap in enumerate(self._item_mocap):
            xy = layout.distractor_xy[index]
            data.mocap_pos[mocap] = [*xy, 0.021] if np.isfinite(xy).all() else scene.PARKED

    def _home_arm(self, rng: np.random.Generator) -> None:
        home = np.array([0.0, 0.0, 0.17]) + rng.uniform(-1, 1, 3) * [0.08, 0.10, 0.03]
        self.data.qpos[self._arm_qpos] = [*home, scene.FINGER_OPEN_M, scene.FINGER_OPEN_M]
        self.data.ctrl[:] = [*home, scene.FINGER_OPEN_M, scene.FINGER_OPEN_M]

    def _randomise_look(self, rng: np.random.Generator) -> None:
        model, layout = self.model, self.layout
        for field, value in self._look.items():
            getattr(model, field)[:] = value
        painted = [(f"block_{i}", palette.BLOCK_COLOURS[c]) for i, c in enumerate(layout.block_colours)]
        painted += [(f"zone_{i}", palette.ZONE_COLOURS[c]) for i, c in enumerate(layout.zone_colours)]
        shades = rng.permutation(len(palette.DISTRACTOR_COLOURS))
        painted += [
            (f"distractor_{i}", palette.DISTRACTOR_COLOURS[shades[i]]) for i in range(scene.NUM_DISTRACTORS)
        ]
        painted += [("table", palette.TABLE), ("floor", palette.FLOOR)]
        for name, colour in painted:
            spread = 0.08 if name in ("table", "floor") else 0.04
            model.geom(name).rgba[:3] = np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 1)
        model.light_diffuse[:] *= rng.uniform(0.8, 1.2)
        model.light_pos[:] += rng.uniform(-0.2, 0.2, 3)
        camera = model.camera(scene.SCENE_CAMERA).id
        model.cam_pos[camera] += rng.uniform(-0.005, 0.005, 3)
        turn = np.zeros(4)
        axis = rng.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), np.deg2rad(rng.uniform(-0.4, 0.4)))
        tilted = np.zeros(4)
        mujoco.mju_mulQuat(tilted, model.cam_quat[camera], turn)
        model.cam_quat[camera] = tilted
