"""Labels are what the world says, and recording leaves the world alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from saccade.sim.seeds import FIRST_TRAINING_SEED
from saccade.sim.tabletop.cameras import SLOTS, VIEWS, Cameras
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.tasks import TEMPLATES, feasible_tasks, instruction
from saccade.sim.tabletop.world import World
from saccade.sim.training.demonstrations import (
    CLASSES,
    IMAGE_PX,
    PATCH_PX,
    SHARD_FIELDS,
    count_slots,
    is_worded_alike,
    label_frame,
    record_frames,
    save_frames,
    scripted_chunk,
    second_task,
)
from saccade.sim.training.shards import Shards


@pytest.fixture
def world():
    world = World()
    world.reset(np.random.default_rng(3), "place")
    return world


def test_expert_chunk_is_what_the_expert_then_does(world):
    chunk = scripted_chunk(world, world.task)
    for action in chunk:
        np.testing.assert_array_equal(scripted_action(world), action)
        world.step(action)


def test_labelling_leaves_the_world_unchanged(world):
    before, state, steps = world.proprio(), world.data.qpos.copy(), world.steps
    with Cameras(world, IMAGE_PX) as cameras:
        label_frame(world, cameras, np.random.default_rng(0))
    np.testing.assert_array_equal(world.proprio(), before)
    np.testing.assert_array_equal(world.data.qpos, state)
    assert world.steps == steps


def test_patch_counts_match_a_count_by_hand(world):
    with Cameras(world, IMAGE_PX) as cameras:
        slots = cameras.render_slots(VIEWS[0])
    counts = count_slots(slots)
    side = IMAGE_PX // PATCH_PX
    assert counts.shape == (side * side, len(SLOTS))
    assert (counts.sum(-1) == PATCH_PX**2).all()
    row, column = 4, 6
    patch = slots[row * PATCH_PX : (row + 1) * PATCH_PX, column * PATCH_PX : (column + 1) * PATCH_PX]
    expected = [(patch == slot).sum() for slot in range(len(SLOTS))]
    np.testing.assert_array_equal(counts[row * side + column], expected)


def test_same_seed_same_frames_and_shards_read_back(tmp_path):
    first = list(islice(record_frames(FIRST_TRAINING_SEED), 6))
    again = list(islice(record_frames(FIRST_TRAINING_SEED), 6))
    for one, other in zip(first, again, strict=True):
        assert one.instructions == other.instructions
        for field in SHARD_FIELDS:
            np.testing.assert_array_equal(one.arrays[field], other.arrays[field])
    save_frames(tmp_path / "demo_0000", first[:2])
    save_frames(tmp_path / "demo_0001", first[2:])
    shards = Shards([tmp_path / "demo_0000", tmp_path / "demo_0001"])
    assert len(shards) == 6
    np.testing.assert_array_equal(shards.gather("images", np.array([4, 0]))[0], first[4].arrays["images"])
    assert shards.instructions[3] == first[3].instructions


@pytest.mark.parametrize("template", TEMPLATES)
def test_tasks_worded_alike_differ_in_one_word_or_in_word_order(world, template):
    tasks = feasible_tasks(world.layout, template)
    for task in tasks:
        for other in tasks:
            words, others = (instruction(each, world.layout).split() for each in (task, other))
            differing = sum(one != two for one, two in zip(words, others, strict=True))
            expected = task != other and (differing == 1 or sorted(words) == sorted(others))
            assert is_worded_alike(task, other) == expected


def test_the_second_task_is_another_one_and_often_worded_alike(world):
    rng = np.random.default_rng(0)
    found = [second_task(world.layout, world.task, rng) for _ in range(200)]
    assert world.task not in found
    assert {task.template for task in found} == set(TEMPLATES)
    assert sum(is_worded_alike(task, world.task) for task in found) > 80


def test_classes_cover_every_colour_once():
    assert len(set(CLASSES)) == len(CLASSES)


def test_no_shards_is_an_error_that_says_what_to_do():
    with pytest.raises(FileNotFoundError, match="record some first"):
        Shards([])
