"""The models that are trained: what they can be told, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saccade.export.cost.account import family_account
from saccade.export.cost.cut_plan import CutPlan
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.proto.errors import CheckpointError
from saccade.proto.roofline import DECODER, VISION
from saccade.sim.tabletop.tasks import feasible_tasks, instruction
from saccade.sim.training.mini import (
    MAX_TEXT_TOKENS,
    MINI,
    MINIS,
    UNKNOWN,
    begin_run,
    build_config,
    build_tokenizer,
    mini_of,
)


@pytest.mark.parametrize("mini", MINIS.values(), ids=MINIS)
def test_every_word_of_every_instruction_is_known(mini):
    tokenizer = build_tokenizer(mini)
    for seed in range(20):
        layout = mini.table.sample_layout(np.random.default_rng(seed))
        for template in mini.table.templates:
            for task in feasible_tasks(layout, template):
                found = tokenizer.encode(instruction(task, layout))
                assert UNKNOWN not in found.tokens and len(found.ids) <= MAX_TEXT_TOKENS


def test_it_costs_what_the_models_cost_that_it_stands_for():
    config = build_config(MINI, build_tokenizer(MINI))
    with torch.device("meta"):
        model = OpenVlaOft(config)
    account = family_account(model, CutPlan())
    share = {part.name: part.macs / account.macs for part in account.parts}
    assert share[VISION] <= 0.20 and share[DECODER] >= 0.75
    assert config.decoder.layers >= 8 and model.grid.tokens == 288


def test_a_run_trains_one_model(tmp_path):
    assert mini_of(tmp_path / "fresh") is MINI and not (tmp_path / "fresh").exists()
    assert begin_run(tmp_path, "mini-2") is mini_of(tmp_path) is begin_run(tmp_path, None) is MINI
    with pytest.raises(CheckpointError, match="to train mini-2, found --model mini-3: begin a new --run"):
        begin_run(tmp_path, "mini-3")
    (tmp_path / "model.json").write_text('{"model": "mini-1"}')
    with pytest.raises(CheckpointError, match=r"out of mini-2 in .*, found 'mini-1'"):
        mini_of(tmp_path)
