"""Demonstrations: episodes of the scripted expert with noise, rendered and labelled, written as resumable shards.

Every kept frame is labelled by *clean* rollouts of the scripted expert from exactly that state, for the episode's own
task and, while nothing has been moved yet, for a second task in the same scene: the same pixels with two instructions.
Every other one of these is worded almost like the first, so that word order and each single word decide.

A shard is a directory of ``.npy`` files with ``frames`` as the first axis (see ``SHARD_FIELDS``) plus
``instructions.json``. The layout is plain on purpose: memory-mapped, no video codec, no torch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saccade.sim.tabletop import palette, scene
from saccade.sim.tabletop.cameras import SLOTS, VIEWS, Cameras
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.tasks import (
    DIRECTIONS,
    PUSH_DISTANCE_M,
    TEMPLATES,
    Layout,
    Task,
    feasible_tasks,
    instruction,
)
from saccade.sim.tabletop.world import MAX_STEP_M, World

CHUNK = 8
IMAGE_PX = 120
PATCH_PX = 12
LABELS_PER_FRAME = 2
LONGEST_STEPS = 100
"""Control steps after which a recorded episode is given up: whoever needs more has lost the task."""

SHARD_FIELDS = {
    "images": "uint8 (frames, views, 120, 120, 3) RGB",
    "proprio": "float32 (frames, 4) TCP x, y, z and gripper opening, metres",
    "slot_counts": "uint8 (frames, views, patches, slots) pixels of each patch that show each slot",
    "slot_classes": "int8 (frames, slots) class index of each slot, see CLASSES",
    "slot_positions": "float32 (frames, slots, 3) world position of each slot's centre, metres",
    "chunks": "float32 (frames, labels, 8, 4) the scripted expert's next actions, physical units",
    "goals": "float32 (frames, labels, 2, 3) the named block and where it must go, metres",
    "label_valid": "bool (frames, labels)",
}

CLASSES = ("background", "arm", *palette.BLOCK_COLOURS, *palette.ZONE_COLOURS, "distractor")


@dataclass(frozen=True)
class Frame:
    """A labelled frame; its arrays are the fields of ``SHARD_FIELDS`` without the first axis."""

    arrays: dict[str, np.ndarray]
    instructions: tuple[str, ...]


def save_frames(path: Path, frames: list[Frame]) -> None:
    """Write frames as a shard, atomically; a shard that another process wrote meanwhile stays."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for field in SHARD_FIELDS:
        np.save(partial / f"{field}.npy", np.stack([frame.arrays[field] for frame in frames]))
    (partial / "instructions.json").write_text(json.dumps([frame.instructions for frame in frames]))
    if path.exists():
        shutil.rmtree(partial)
        return
    os.replace(partial, path)


def record_frames(seed: int) -> Iterator[Frame]:
    """Yield labelled frames from noisy episodes of the scripted expert, without end."""
    world = World()
    rng = np.random.default_rng(seed)
    with Cameras(world, IMAGE_PX) as cameras:
        while True:
            world.reset(rng)
            disturbance = Disturbance(rng)
            while not world.is_over() and world.steps < LONGEST_STEPS:
                if rng.random() < 0.5:
                    yield label_frame(world, cameras, rng)
                world.step(disturbance(scripted_action(world)))


class Disturbance:
    """Makes a scripted action imperfect: Gaussian noise, and now and then a short push or a slip of the gripper."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._sigma = rng.choice([0.0, 0.1, 0.3, 0.6])
        self._bursts = rng.random() < 0.4
        self._left = 0
        self._push = np.zeros(3)
        self._slip = False

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Disturb one action, ``(4,)`` physical units."""
        rng = self._rng
        if self._left == 0 and self._bursts and rng.random() < 0.04:
            self._left = int(rng.integers(3, 8))
            self._push = rng.uniform(-1, 1, 3) * MAX_STEP_M
            self._slip = rng.random() < 0.3
        action = action.copy()
        action[:3] += rng.normal(size=3) * self._sigma * MAX_STEP_M
        if self._left > 0:
            self._left -= 1
            action[:3] = self._push
            action[3] = 1 - action[3] if self._slip else action[3]
        return action


def label_frame(world: World, cameras: Cameras, rng: np.random.Generator) -> Frame:
    """Render the world as it is and label it with clean rollouts of the scripted expert. Leaves the world unchanged."""
    tasks = [world.task]
    if is_untouched(world):
        tasks.append(second_task(world.layout, world.task, rng))
    chunks = np.zeros((LABELS_PER_FRAME, CHUNK, 4), np.float32)
    goals = np.zeros((LABELS_PER_FRAME, 2, 3), np.float32)
    for index, task in enumerate(tasks):
        chunks[index] = scripted_chunk(world, task)
        goals[index] = goal_points(world, task)
    return Frame(
        arrays={
            "images": np.stack([cameras.render(view) for view in VIEWS]),
            "proprio": world.proprio(),
            "slot_counts": np.stack([count_slots(cameras.render_slots(view)) for view in VIEWS]),
            "slot_classes": slot_classes(world),
            "slot_positions": slot_positions(world),
            "chunks": chunks,
            "goals": goals,
            "label_valid": np.arange(LABELS_PER_FRAME) < len(tasks),
        },
        instructions=tuple(instruction(task, world.layout) for task in tasks),
    )


def second_task(layout: Layout, first: Task, rng: np.random.Generator) -> Task:
    """Return another task of the layout: half the time any, half the time one worded almost like ``first``."""
    if rng.random() < 0.5:
        template = TEMPLATES[rng.integers(len(TEMPLATES))]
        others = [task for task in feasible_tasks(layout, template) if task != first]
    else:
        others = [task for task in feasible_tasks(layout, first.template) if is_worded_alike(task, first)]
    return others[rng.integers(len(others))] if others else first


def is_worded_alike(task: Task, other: Task) -> bool:
    """Return whether two tasks of one template differ in one word, or in the order of their two blocks."""
    kept = (task.block == other.block) + (task.target == other.target) + (task.direction == other.direction)
    are_swapped = (task.block, task.target) == (other.target, other.block)
    return kept == 2 or (task.template == "stack" and are_swapped)


def scripted_chunk(world: World, task: Task) -> np.ndarray:
    """Return the scripted expert's next ``CHUNK`` actions: float32 ``(8, 4)``. Leaves the world unchanged."""
    now = world.snapshot()
    chunk = np.empty((CHUNK, 4), np.float32)
    for index in range(CHUNK):
        chunk[index] = scripted_action(world, task)
        world.step(chunk[index])
    world.restore(now)
    return chunk


def goal_points(world: World, task: Task) -> np.ndarray:
    """Return where the named block is and where it must go: float32 ``(2, 3)`` metres. A grounding label."""
    block = world.block(task.block)
    if task.template == "place":
        goal = world.zone(task.target)
    elif task.template == "stack":
        goal = world.block(task.target)
    elif task.template == "push":
        goal = block + PUSH_DISTANCE_M * np.array([*DIRECTIONS[task.direction], 0.0])
    else:
        goal = block
    return np.stack([block, goal]).astype(np.float32)


def is_untouched(world: World) -> bool:
    """Return whether every block still lies where it lay at the start."""
    return all(
        np.abs(world.block(i) - [*world.layout.block_xy[i], scene.BLOCK_HALF_M]).max() < 0.008
        for i in range(scene.NUM_BLOCKS)
    )


def count_slots(slots: np.ndarray) -> np.ndarray:
    """Return how many pixels of each patch show each slot: uint8 ``(patches, slots)``."""
    side = slots.shape[0] // PATCH_PX
    patch_of_pixel = np.arange(slots.shape[0]) // PATCH_PX
    patch = patch_of_pixel[:, None] * side + patch_of_pixel[None, :]
    counts = np.bincount((patch * len(SLOTS) + slots).ravel(), minlength=side * side * len(SLOTS))
    return counts.reshape(side * side, len(SLOTS)).astype(np.uint8)


def slot_classes(world: World) -> np.ndarray:
    """Return the class index of each slot in this episode: int8 ``(slots,)``."""
    names = ["background", "arm", *world.layout.block_colours, *world.layout.zone_colours]
    names += ["distractor"] * scene.NUM_DISTRACTORS
    return np.array([CLASSES.index(name) for name in names], np.int8)


def slot_positions(world: World) -> np.ndarray:
    """Return the world position of each slot's centre: float32 ``(slots, 3)`` metres; the arm's is its TCP."""
    points = [np.zeros(3), world.tcp()]
    points += [world.block(i) for i in range(scene.NUM_BLOCKS)]
    points += [world.zone(i) for i in range(scene.NUM_ZONES)]
    points += [world.distractor(i) for i in range(scene.NUM_DISTRACTORS)]
    return np.array(points, np.float32)
