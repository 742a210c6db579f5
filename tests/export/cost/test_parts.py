"""The formulas of every family agree with what torch counts while the model runs, product for product."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.parts import model_parts, parameter_counts
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.qwen_vl.model import QwenVl
from saccade.export.inspection.recognition import open_checkpoint
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import CacheSpan
from saccade.export.steps.step_of import acting_step
from saccade.policies.registry import build_policy
from saccade.proto.inspection import InspectionRequest
from saccade.proto.roofline import DECODE, DENOISE, LM_HEAD, PREFIX, PROJECTOR, VISION, Part
from tests.export.inspection.tiny_checkpoints import WRITERS

pytestmark = pytest.mark.usefixtures("tiny_variants")

WHOLE = CutPlan(is_last_layer_whole=True)
ANSWER = 5
REQUESTS = {
    "llava": {"text_tokens": 9},
    "llava, two pictures": {"text_tokens": 9, "views": 2},
    "llava_next": {"text_tokens": 9, "image_size": (40, 30), "views": 2},
    "llava_onevision, tiles": {"text_tokens": 9, "image_size": (60, 90)},
    "llava_onevision, views": {"text_tokens": 9, "views": 3},
    "llava_onevision, video": {"text_tokens": 9, "frames": 3},
    "openvla": {},
    "openvla_oft": {},
    "openvla_oft, published": {"text_tokens": 6},
    "pi0": {"views": 2, "text_tokens": 9},
    "pi05": {"views": 3, "text_tokens": 7},
    "qwen2_5_vl": {"text_tokens": 9, "image_size": (27, 43), "views": 2},
    "qwen2_5_vl, video": {"text_tokens": 9, "image_size": (27, 43), "frames": 4},
    "qwen3_vl": {"text_tokens": 9, "image_size": (27, 43)},
    "qwen3_vl, video": {"text_tokens": 9, "image_size": (27, 43), "frames": 3},
    "smolvla": {},
}
Written = Callable[[str], Path]


def folder_of(written: Written, case: str) -> Path:
    return written(case if case in WRITERS else case.partition(", ")[0])


def counted(run: Callable[[], Any]) -> int:
    """MACs that torch counts while something runs."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def opened(written: Written, case: str) -> tuple[Any, int]:
    """The model, with memory whose content does not matter, and the length of an answer."""
    named = {"new_tokens": ANSWER, "reads_weights": case != "smolvla", **REQUESTS[case]}
    request = InspectionRequest(**named)  # type: ignore[arg-type]
    found = open_checkpoint(folder_of(written, case), request)
    model = found.model
    model.load_state_dict({name: torch.zeros(w.shape) for name, w in model.state_dict().items()}, assign=True)
    return model.eval(), found.new_tokens


def images_of(model: Any) -> torch.Tensor:
    if isinstance(model, QwenVl):
        tower = model.config.tower
        count = model.config.views * (tower.frames or 1)
        return torch.zeros(1, count, *tower.picture_size, 3, dtype=torch.uint8)
    side = model.towers[0].config.image_size
    height, width = getattr(model, "image_size", (side, side))
    return torch.zeros(1, model.pictures, height, width, 3, dtype=torch.uint8)


def prompt(model: GeneratingModel) -> None:
    """Run a prompt with every row of every layer, and the head on one."""
    ids, lengths = torch.zeros(1, model.prompt_layout.max_text_tokens, dtype=torch.int64), torch.tensor([2])
    deep: tuple[Any, ...] = ()
    if isinstance(model, QwenVl):
        features = model.features(images_of(model))
        visual, deep = model.embed_visual(features.last), model.embed_deep(features.deep)
    else:
        visual = model.embed_visual(model.visual_tokens(images_of(model)))
    hidden, inputs = model.embed(visual, ids), model.sequence_inputs(lengths)
    states = model.run(hidden, inputs, deep) if isinstance(model, QwenVl) else model.run(hidden, inputs)
    model.logits(states[:, -1])


def total(parts: tuple[Part, ...], *names: str) -> int:
    return sum(part.macs for part in parts if not names or part.name in names)


def part(parts: tuple[Part, ...], name: str) -> Part:
    return next(part for part in parts if part.name == name)


GENERATING = [
    case for case in REQUESTS if case.startswith(("llava", "qwen", "openvla")) and "oft" not in case
]


@pytest.mark.parametrize("case", GENERATING)
def test_a_prompt_is_counted_exactly(written: Written, case: str) -> None:
    model, new_tokens = opened(written, case)
    parts = model_parts(model, WHOLE, new_tokens)
    expected = total(parts, VISION, PROJECTOR, "prefill") + part(parts, LM_HEAD).macs // new_tokens
    assert expected == counted(lambda: prompt(model)) - model.folded_macs


def test_every_pass_of_action_tokens_is_counted_exactly(written: Written) -> None:
    """The unrolled step of OpenVLA: prompt, further tokens, each with all that came before it, and the head."""
    model, tokens = opened(written, "openvla")
    step = acting_step(model, build_policy("keep_all", {}, model_shape(model)), model.grid.tokens)
    ids = torch.zeros(1, model.prompt_layout.max_text_tokens, dtype=torch.int64)
    mask = model.sequence_inputs(torch.tensor([2])).mask
    parts = model_parts(model, CutPlan())
    assert total(parts) == counted(lambda: step(images_of(model), ids, mask))
    decode, config = part(parts, DECODE), model.decoder.config
    assert (decode.passes, part(parts, LM_HEAD).passes) == (tokens - 1, tokens)
    seen = sum(model.layout.tokens + number for number in range(1, tokens))
    assert decode.kv_values == config.layers * 2 * config.kv_heads * config.head_dim * seen


@pytest.mark.parametrize("case", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_a_further_token_is_counted_exactly(written: Written, case: str) -> None:
    model, new_tokens = opened(written, case)
    parts = model_parts(model, CutPlan(), new_tokens)
    layers, tokens = range(model.decoder.config.layers), model.layout.tokens
    step = GenerationStep(model, (CacheSpan(layers, tokens, tokens + new_tokens),)).eval()
    token = torch.zeros(1, 1, dtype=torch.int64)
    found = counted(lambda: step(token, token, *step.initial_carry().values()))
    decode, head = part(parts, DECODE), part(parts, LM_HEAD)
    assert decode.passes == new_tokens - 1 and head.passes == new_tokens
    assert found == decode.macs // decode.passes + head.macs // head.passes
    caches = sum(spec.shape[1:].numel() for spec in map(_shape, step.carry_specs) if spec.is_number)
    assert decode.kv_values == decode.passes * caches


class _shape:  # noqa: N801 -- reads like a function
    """A carry tensor: its shape, and whether it holds numbers of keys or values."""

    def __init__(self, spec: Any) -> None:
        self.shape, self.is_number = torch.Size(spec.shape), spec.dtype == "float32"


@pytest.mark.parametrize("case", ["pi0", "pi05", "smolvla"])
def test_a_step_of_a_flow_model_is_counted_exactly(written: Written, case: str) -> None:
    model, _ = opened(written, case)
    parts = model_parts(model, CutPlan(), 1)
    before = parameter_counts(model)
    model.fold()
    views = torch.ones(1, model.grid.views, dtype=torch.bool)
    inputs = model.sequence_inputs(torch.tensor([2]), views)
    ids = torch.zeros(1, model.config.max_text_tokens, dtype=torch.int64)
    state = None if case == "pi05" else torch.zeros(1, model.config.state_dim)
    noise = torch.zeros(1, model.flow.chunk, model.flow.action_dim)
    assert total(parts) == counted(lambda: model(images_of(model), state, ids, *inputs, noise))
    assert sum(before.values()) >= sum(weight.numel() for weight in model.parameters())
    table = model.decoder.embed_tokens.weight.numel()
    folded = sum(weight.numel() for weight in model.parameters()) - table
    unread = _unread(model)
    assert sum(part.weights for part in parts) == folded - unread


def _unread(model: Any) -> int:
    """Weights of the last prefix layer that only matter to what nobody reads, and columns that meet zeros."""
    last = model.decoder.layers[-1]
    dead = (last.self_attn.q_proj, last.self_attn.o_proj, last.post_attention_layernorm, last.mlp)
    state = model.state_part
    columns = 0 if state is None else state.weight[:, model.config.state_dim :].numel()
    return columns + sum(weight.numel() for module in dead for weight in module.parameters())


@pytest.mark.parametrize("case", ["openvla_oft", "openvla_oft, published"])
def test_a_single_pass_is_counted_exactly(written: Written, case: str) -> None:
    model, _ = opened(written, case)
    mask, positions = model.sequence_inputs(torch.tensor([2]))
    ids = torch.zeros(1, model.config.max_text_tokens, dtype=torch.int64)
    proprio = torch.zeros(1, model.config.proprio_dim)
    found = counted(lambda: model(images_of(model), proprio, ids, mask, positions))
    parts = model_parts(model, WHOLE, 1)
    assert total(parts) == found
    short = model_parts(model, CutPlan(), 1)
    assert total(short) < found
    table = model.decoder.embed_tokens.weight.numel()
    assert sum(part.weights for part in parts) == sum(w.numel() for w in model.parameters()) - table


@pytest.mark.parametrize("case", REQUESTS)
def test_parameters_are_all_counted_once(written: Written, case: str) -> None:
    model, _ = opened(written, case)
    counts = parameter_counts(model)
    assert sum(counts.values()) == sum(weight.numel() for weight in model.parameters())
    assert min(counts.values()) > 0


@pytest.mark.parametrize("case", ["pi0", "smolvla"])
def test_fewer_tokens_leave_the_expert_less_to_read(written: Written, case: str) -> None:
    model, _ = opened(written, case)
    full, few = model_parts(model, CutPlan(), 1), model_parts(model, CutPlan.at_entry(2), 1)
    assert part(few, PREFIX).macs < part(full, PREFIX).macs
    assert part(few, DENOISE).macs < part(full, DENOISE).macs
    assert part(few, DENOISE).kv_values < part(full, DENOISE).kv_values
    assert part(few, VISION) == part(full, VISION)
    assert [part.weights for part in few] == [part.weights for part in full]
