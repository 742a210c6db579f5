"""The formulas against what torch counts in the real classes of transformers, which we did not write.

What those compute beyond our graphs is added by name: logits of every row, blocks of a tower that nobody reads, two
equal frames of a still picture, time and state in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.formulas import tower_macs
from saccade.export.cost.parts import model_parts
from saccade.export.inspection.recognition import open_checkpoint
from saccade.proto.inspection import InspectionRequest
from saccade.proto.roofline import DENOISE, LM_HEAD, PREFILL, PREFIX, PROJECTOR, VISION
from tests.export.families.llava import test_llava
from tests.export.families.pi_scenes import PATCHES, SCENES, VIEWS
from tests.export.families.published import pictures
from tests.export.families.qwen_reference import QUESTIONS, still_inputs, token_inputs
from tests.export.families.qwen_vl import test_qwen2_5 as test_qwen2_5_vl
from tests.export.families.qwen_vl import test_qwen3 as test_qwen3_vl
from tests.export.inspection.tiny_checkpoints import WRITERS

WHOLE = CutPlan(is_last_layer_whole=True)


def counted(run: Callable[[], Any]) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def parts_of(folder: Path, **changes: Any) -> tuple[Any, dict[str, int]]:
    """The model, and MACs by part; every row of the last layer is counted."""
    opened = open_checkpoint(folder, InspectionRequest(new_tokens=1, **changes))
    return opened.model, {part.name: part.macs for part in model_parts(opened.model, WHOLE, 1)}


def test_llava_1_5(tmp_path: Path) -> None:
    theirs = WRITERS["llava"](tmp_path / "llava")
    question = [11, 12, 13]
    model, macs = parts_of(tmp_path / "llava", text_tokens=len(question))
    config, tower = model.decoder.config, model.config.tower
    ids = torch.tensor([[*[test_llava.IMAGE_ID] * tower.tokens, *question]])
    pixels = torch.zeros(1, 3, tower.image_size, tower.image_size)
    found = counted(lambda: theirs(input_ids=ids, pixel_values=pixels))
    tokens = ids.shape[1]
    beyond = (
        (tokens - 1) * config.width * config.vocab_size
        + tower_macs(tower, 1, [tower.tokens] * tower.depth)
        - tower_macs(tower, 1, [tower.tokens] * tower.blocks)
    )
    assert found == sum(macs[name] for name in (VISION, PROJECTOR, PREFILL, LM_HEAD)) + beyond


@pytest.mark.parametrize(("family", "module"), [("qwen2_5_vl", test_qwen2_5_vl), ("qwen3_vl", test_qwen3_vl)])
def test_qwen_vl(tmp_path: Path, family: str, module: Any) -> None:
    theirs = WRITERS[family](tmp_path / family)
    question, camera = QUESTIONS[0], (27, 43)
    model, macs = parts_of(tmp_path / family, text_tokens=len(question), image_size=camera)
    images = still_inputs(pictures(1, *camera), module.PROCESSOR)
    inputs = {**token_inputs(model.prompt_layout, question, video=False), **images}
    found = counted(lambda: theirs(**inputs))
    tokens, config, tower = inputs["input_ids"].shape[1], model.decoder.config, model.config.tower
    assert tokens == model.layout.tokens
    patches = tower.rows * tower.columns
    beyond = (tokens - 1) * config.width * config.vocab_size + patches * 3 * tower.patch_size**2 * tower.width
    assert found == sum(macs[name] for name in (VISION, PROJECTOR, PREFILL, LM_HEAD)) + beyond


@pytest.mark.usefixtures("tiny_variants")
def test_pi0(tmp_path: Path) -> None:
    theirs = WRITERS["pi0"](tmp_path / "pi0")
    scene = SCENES["all cameras"]
    given = scene.for_reference()
    found = counted(lambda: theirs.sample_actions(**given, state=scene.state, noise=scene.noise))
    tokens = given["input_ids"].shape[1]
    model, macs = parts_of(tmp_path / "pi0", views=VIEWS, text_tokens=tokens - VIEWS * PATCHES)
    width, flow = model.config.expert.width, model.flow
    beyond = (
        (flow.steps - 1) * model.config.state_dim * width  # the state is projected in every step
        + flow.steps * flow.chunk * width** 2  # the half of time, which is folded here
    )
    assert found == sum(macs[name] for name in (VISION, PROJECTOR, PREFIX, DENOISE)) + beyond
