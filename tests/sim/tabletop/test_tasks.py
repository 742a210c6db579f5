"""What a robot can be told on each table, in words, and what must be free for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from saccade.sim.tabletop.scene import BALL
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.tasks import (
    INTERCEPT,
    PUSH,
    STACK,
    VERBS,
    Layout,
    Task,
    feasible_tasks,
    instruction,
)

SHAPES = BUNDLED


def draw(seed: int) -> Layout:
    return SHAPES.sample_layout(np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_every_sentence_means_one_task(seed: int) -> None:
    layout = draw(seed)
    tasks = [task for name in SHAPES.templates for task in feasible_tasks(layout, name)]
    assert {task.template for task in tasks} == set(SHAPES.templates)
    assert len({instruction(task, layout) for task in tasks}) == len(tasks)


def test_a_thing_is_called_by_its_colour_and_its_shape() -> None:
    layout = draw(0)
    names = {layout.thing_name(index) for index in layout.present}
    for task in feasible_tasks(layout, INTERCEPT):
        verb, the, *name = instruction(task, layout).split()
        assert (verb, the) == ("pick", "the") and " ".join(name) in names
    firsts = [instruction(feasible_tasks(layout, name)[0], layout).split()[0] for name in SHAPES.templates]
    assert tuple(firsts) == VERBS


def test_only_what_rides_is_picked_and_only_what_lies_is_stacked_and_never_a_ball() -> None:
    for seed in range(8):
        layout = draw(seed)
        assert tuple(task.thing for task in feasible_tasks(layout, INTERCEPT)) == layout.riders
        for task in feasible_tasks(layout, STACK):
            for index in (task.thing, task.target):
                assert index in layout.at_rest and layout.shapes[index] != BALL


def test_nothing_is_pushed_onto_the_belt_or_from_it() -> None:
    layout = draw(0)
    thing = layout.at_rest[0]
    alone = np.full_like(layout.thing_xy, np.nan)
    alone[thing] = [layout.belt_edge_m + 0.08, 0.0]
    near = replace(layout, thing_xy=alone, distractor_xy=np.full((2, 2), np.nan), riders=())
    assert {task.direction for task in feasible_tasks(near, PUSH)} == {"left", "right", "front"}
    alone[thing] = [layout.belt_edge_m + 0.06, 0.0]
    assert Task(PUSH, thing, direction="front") not in feasible_tasks(near, PUSH)
