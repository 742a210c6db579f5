"""Labels are what the world says, and recording leaves the world alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from saccade.sim.seeds import FIRST_TRAINING_SEED
from saccade.sim.tabletop.cameras import VIEWS, Cameras
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.tables import BUNDLED, TABLES
from saccade.sim.tabletop.tasks import INTERCEPT, REACH, Task, feasible_tasks, instruction
from saccade.sim.tabletop.world import World
from saccade.sim.training.demonstrations import (
    PATCH_PX,
    SHARD_FIELDS,
    classes_of,
    count_slots,
    goal_points,
    is_lost,
    is_worded_alike,
    label_frame,
    record_frames,
    save_frames,
    scripted_chunk,
    second_task,
)
from saccade.sim.training.shards import Shards

IMAGE_PX = BUNDLED.image_px


@pytest.fixture
def world():
    world = World()
    world.reset(np.random.default_rng(3), "place")
    return world


@pytest.fixture
def riding():
    world = World()
    world.reset(np.random.default_rng(3), INTERCEPT)
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
    known = len(BUNDLED.slots)
    counts = count_slots(slots, known)
    side = IMAGE_PX // PATCH_PX
    assert counts.shape == (side * side, known)
    assert (counts.sum(-1) == PATCH_PX**2).all()
    row, column = 4, 6
    patch = slots[row * PATCH_PX : (row + 1) * PATCH_PX, column * PATCH_PX : (column + 1) * PATCH_PX]
    expected = [(patch == slot).sum() for slot in range(known)]
    np.testing.assert_array_equal(counts[row * side + column], expected)


def test_same_seed_same_frames_and_shards_read_back(tmp_path):
    first = list(islice(record_frames(FIRST_TRAINING_SEED, BUNDLED), 6))
    again = list(islice(record_frames(FIRST_TRAINING_SEED, BUNDLED), 6))
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


def test_tasks_worded_alike_differ_in_one_word_or_in_word_order(riding):
    layout = riding.layout
    told = {
        instruction(task, layout): task
        for name in riding.table.templates
        for task in feasible_tasks(layout, name)
    }
    colour, other = sorted({layout.thing_colours[index] for index in layout.at_rest})
    alike = {
        (one, two)
        for one in told
        for two in told
        if told[one].template == told[two].template and is_worded_alike(told[one], told[two], layout)
    }
    assert alike == {(two, one) for one, two in alike}
    assert all(one.split()[0] == two.split()[0] and one != two for one, two in alike)
    for shape in ("block", "cylinder", "ball"):
        pair = f"touch the {colour} {shape}", f"touch the {other} {shape}"
        assert (pair in alike) == (set(pair) <= set(told))
    for sentence in told:
        if sentence.startswith("stack"):
            one, two = sentence.removeprefix("stack the ").split(" on the ")
            assert (sentence, f"stack the {two} on the {one}") in alike


def test_the_second_task_is_another_one_and_often_worded_alike(world):
    rng = np.random.default_rng(0)
    found = [second_task(world, rng) for _ in range(200)]
    assert world.task not in found
    assert {task.template for task in found} == set(BUNDLED.templates)
    alike = (is_worded_alike(t, world.task, world.layout) for t in found if t.template == world.task.template)
    assert sum(alike) > 80


def test_what_has_ridden_by_is_neither_asked_for_nor_recorded(riding):
    assert not is_lost(riding)
    riding.run_on(900)  # 4.5 s
    assert is_lost(riding)
    found = [second_task(riding, np.random.default_rng(seed)) for seed in range(50)]
    assert {task for task in found if task.template == INTERCEPT} <= {riding.task}, (
        "only where there is no other"
    )


def test_the_goal_of_what_moves_says_where_it_goes(riding):
    thing, goal = goal_points(riding, riding.task)
    assert np.sign(goal[1] - thing[1]) == np.sign(riding.layout.belt_mps)
    at_rest = Task(REACH, riding.layout.at_rest[0])
    np.testing.assert_array_equal(*goal_points(riding, at_rest))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_classes_cover_every_name_once(table):
    classes = classes_of(table)
    assert len(set(classes)) == len(classes)
    for colour in table.thing_colours:
        assert {f"{colour} {shape}" for shape in table.shapes} <= set(classes)


def test_no_shards_is_an_error_that_says_what_to_do():
    with pytest.raises(FileNotFoundError, match="record some first"):
        Shards([])
