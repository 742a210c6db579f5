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

from saccade.sim.tabletop.arm import MAX_STEP_M, REACH_M
from saccade.sim.tabletop.cameras import VIEWS, Cameras
from saccade.sim.tabletop.scene import NUM_DISTRACTORS, THING_HALF_M
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tasks import (
    DIRECTIONS,
    INTERCEPT,
    PLACE,
    PUSH,
    PUSH_DISTANCE_M,
    STACK,
    Layout,
    Task,
    feasible_tasks,
    instruction,
)
from saccade.sim.tabletop.world import World

CHUNK = 8
PATCH_PX = 12
LABELS_PER_FRAME = 2
LONGEST_STEPS = 100
"""Control steps after which a recorded episode is given up: whoever needs more has lost the task."""
_FORESIGHT_S = 0.5
"""How far ahead lies the goal of a thing that moves by itself: in which direction it goes must be seen."""

SHARD_FIELDS = {
    "images": "uint8 (frames, views, height, width, 3) RGB",
    "proprio": "float32 (frames, 4) TCP x, y, z and gripper opening, metres",
    "slot_counts": "uint8 (frames, views, patches, slots) pixels of each patch that show each slot",
    "slot_classes": "int8 (frames, slots) class index of each slot, see classes_of",
    "slot_positions": "float32 (frames, slots, 3) world position of each slot's centre, metres",
    "chunks": "float32 (frames, labels, 8, 4) the scripted expert's next actions, physical units",
    "goals": "float32 (frames, labels, 2, 3) the named thing and where it must go, metres",
    "label_valid": "bool (frames, labels)",
}


def classes_of(table: Table) -> tuple[str, ...]:
    """Return what a patch can show on a table: a thing's class is its colour and its shape."""
    things = (f"{colour} {shape}" for shape in dict.fromkeys(table.shapes) for colour in table.thing_colours)
    return ("background", "arm", *things, *table.zone_colours, "distractor")


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


def record_frames(seed: int, table: Table) -> Iterator[Frame]:
    """Yield labelled frames from noisy episodes of the scripted expert, without end."""
    world = World(table)
    rng = np.random.default_rng(seed)
    with Cameras(world, table.image_px) as cameras:
        while True:
            world.reset(rng)
            disturbance = Disturbance(rng)
            while not (world.is_over() or is_lost(world)):
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
    tasks, num_slots = [world.task], len(world.table.slots)
    if is_untouched(world):
        tasks.append(second_task(world, rng))
    chunks = np.zeros((LABELS_PER_FRAME, CHUNK, 4), np.float32)
    goals = np.zeros((LABELS_PER_FRAME, 2, 3), np.float32)
    for index, task in enumerate(tasks):
        chunks[index] = scripted_chunk(world, task)
        goals[index] = goal_points(world, task)
    return Frame(
        arrays={
            "images": np.stack([cameras.render(view) for view in VIEWS]),
            "proprio": world.proprio(),
            "slot_counts": np.stack([count_slots(cameras.render_slots(view), num_slots) for view in VIEWS]),
            "slot_classes": slot_classes(world),
            "slot_positions": slot_positions(world),
            "chunks": chunks,
            "goals": goals,
            "label_valid": np.arange(LABELS_PER_FRAME) < len(tasks),
        },
        instructions=tuple(instruction(task, world.layout) for task in tasks),
    )


def is_lost(world: World) -> bool:
    """Return whether an episode is not worth recording any further: too long, or its thing has ridden by."""
    return world.steps >= LONGEST_STEPS or _has_ridden_by(world, world.task)


def _has_ridden_by(world: World, task: Task) -> bool:
    if task.template != INTERCEPT:
        return False
    y, speed = world.thing(task.thing)[1], world.drift(task.thing)[1]
    return bool(y * np.sign(speed) > REACH_M[1])


def second_task(world: World, rng: np.random.Generator) -> Task:
    """Return another task of the layout: half the time any, half the time one worded almost like the world's own."""
    layout, first, templates = world.layout, world.task, world.table.templates
    if rng.random() < 0.5:
        template = templates[rng.integers(len(templates))]
        others = [task for task in feasible_tasks(layout, template) if task != first]
    else:
        alike = feasible_tasks(layout, first.template)
        others = [task for task in alike if is_worded_alike(task, first, layout)]
    others = [task for task in others if not _has_ridden_by(world, task)]
    return others[rng.integers(len(others))] if others else first


def is_worded_alike(task: Task, other: Task, layout: Layout) -> bool:
    """Return whether two tasks of one template differ in one word, or in the order of their words."""
    words, others = (instruction(each, layout).split() for each in (task, other))
    differing = sum(one != two for one, two in zip(words, others, strict=True))
    return differing == 1 or (differing > 1 and sorted(words) == sorted(others))


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
    """Return where the named thing is and where it must go: float32 ``(2, 3)`` metres. A grounding label."""
    thing = world.thing(task.thing)
    if task.template == PLACE:
        goal = world.zone(task.target)
    elif task.template == STACK:
        goal = world.thing(task.target)
    elif task.template == PUSH:
        goal = thing + PUSH_DISTANCE_M * np.array([*DIRECTIONS[task.direction], 0.0])
    elif task.template == INTERCEPT:
        goal = thing + _FORESIGHT_S * np.array([*world.drift(task.thing), 0.0])
    else:
        goal = thing
    return np.stack([thing, goal]).astype(np.float32)


def is_untouched(world: World) -> bool:
    """Return whether every thing is where it would be if nobody had touched it."""
    return all(
        np.abs(world.thing(i) - [*world.undisturbed(i), THING_HALF_M]).max() < 0.008
        for i in world.layout.present
    )


def count_slots(slots: np.ndarray, num_slots: int) -> np.ndarray:
    """Return how many pixels of each patch show each slot: uint8 ``(patches, slots)``."""
    side = slots.shape[0] // PATCH_PX
    patch_of_pixel = np.arange(slots.shape[0]) // PATCH_PX
    patch = patch_of_pixel[:, None] * side + patch_of_pixel[None, :]
    counts = np.bincount((patch * num_slots + slots).ravel(), minlength=side * side * num_slots)
    return counts.reshape(side * side, num_slots).astype(np.uint8)


def slot_classes(world: World) -> np.ndarray:
    """Return the class index of each slot in this episode: int8 ``(slots,)``."""
    layout, classes = world.layout, classes_of(world.table)
    things = [layout.thing_name(index) for index in range(len(layout.shapes))]
    names = ["background", "arm", *things, *layout.zone_colours, *["distractor"] * NUM_DISTRACTORS]
    return np.array([classes.index(name) for name in names], np.int8)


def slot_positions(world: World) -> np.ndarray:
    """Return the world position of each slot's centre: float32 ``(slots, 3)`` metres; the arm's is its TCP."""
    points = [np.zeros(3), world.tcp()]
    points += [world.thing(i) for i in range(len(world.table.shapes))]
    points += [world.zone(i) for i in range(world.table.num_zones)]
    points += [world.distractor(i) for i in range(NUM_DISTRACTORS)]
    return np.array(points, np.float32)
