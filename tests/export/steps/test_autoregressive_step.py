"""A control step of OpenVLA against transformers' Llama, which runs every token and masks those that were dropped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from saccade.export.control.calibration import measure_prompts
from saccade.export.families.openvla.model import OpenVla
from saccade.export.loading.prismatic import SPACE_ID
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.lint import lint
from saccade.export.steps.autoregressive_step import ActionTokenOutputs, AutoregressiveStep
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillStep
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.methods.vla_pruner import HISTORY
from saccade.policies.registry import POLICIES, build_policy
from tests.export.families.llama_forced import BOS, Forced, forced
from tests.export.families.openvla.test_model import BRIDGE, TEXT, ours
from tests.export.families.prismatic_reference import PATCHES, SIDE, Reference, statistics, write
from tests.export.families.published import pictures

QUESTIONS = ([11, 12, 13, SPACE_ID], [50, SPACE_ID], [3, 4, 5, 6, 7, 8, 9, SPACE_ID])
DIM = 7


@cache
def theirs() -> Reference:
    model = Reference(seed=3)
    model.llama.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OpenVla:
    return ours(write(theirs(), tmp_path_factory.mktemp("openvla") / "openvla", {"bridge": BRIDGE}))


def step_of(model: OpenVla, name: str, keep: int, **options: object) -> AutoregressiveStep:
    policy = build_policy(name, options, model_shape(model))
    return AutoregressiveStep(model, policy, keep).eval()


def inputs(model: OpenVla, words: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    padded = torch.tensor([[*words, *[0] * (TEXT - len(words))]])
    mask = model.sequence_inputs(torch.tensor([len(words)])).mask
    return torch.from_numpy(pictures(1, SIDE, SIDE, seed))[None], padded, mask


def stepped(
    step: AutoregressiveStep, words: list[int], seed: int, state: tuple[Tensor, ...] | None = None
) -> ActionTokenOutputs:
    with torch.no_grad():
        named = step.named(initial_state(step) if state is None else state)
        return step.decode(inputs(step.family, words, seed), named)


def told(words: list[int], seed: int, kept: list[int], cut: int, tokens: list[int]) -> Forced:
    """The reference, told all action tokens but the last."""
    return forced(theirs(), pictures(1, SIDE, SIDE, seed), words, tokens[:-1], kept, cut)


CASES = [
    ("keep_all", PATCHES, {}, 0),
    ("divprune", 5, {}, 0),
    ("center_crop", 4, {}, 0),
    ("fastv", 6, {"insertion_layer": 1}, 1),
    ("fastv", 3, {"insertion_layer": 2}, 2),
]


@pytest.mark.parametrize(("name", "keep", "options", "cut"), CASES)
def test_action_tokens_equal_the_reference(
    model: OpenVla, name: str, keep: int, options: dict[str, object], cut: int
) -> None:
    step, said = step_of(model, name, keep, **options), set()
    for seed, words in enumerate(QUESTIONS):
        out = stepped(step, words, seed)
        tokens, kept = out.tokens[0].tolist(), out.kept[0].tolist()
        expected = told(words, seed, kept, cut, tokens)
        assert expected.logits.argmax(dim=-1).tolist() == tokens
        torch.testing.assert_close(out.logits[0], expected.logits, atol=1e-4, rtol=0)
        assert len(kept) == keep
        said |= set(tokens)
    assert len(said) > 8  # or any token would be the right one


def test_with_every_token_it_says_what_generate_says(model: OpenVla) -> None:
    for seed, words in enumerate(QUESTIONS):
        embedded = [theirs().embedded([BOS]), theirs().visual(pictures(1, SIDE, SIDE, seed))]
        with torch.no_grad():
            prompt = torch.cat([*embedded, theirs().embedded(words)], dim=1)
            ids = theirs().llama.generate(
                inputs_embeds=prompt,
                attention_mask=torch.ones(prompt.shape[:2], dtype=torch.int64),
                max_new_tokens=DIM,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        assert stepped(step_of(model, "keep_all", PATCHES), words, seed).tokens.tolist() == ids.tolist()


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"keep_all", "foveate", "vla_cache"}))
def test_every_policy_has_the_tokens_of_prefill_and_decode(model: OpenVla, name: str) -> None:
    """The graphs of bundles that answer keep their caches otherwise: in slots of fixed capacity."""
    step = step_of(model, name, 8, **({"gated": False} if name == "adp" else {}))
    prefill = PrefillStep(model, step.policy, 8, new_tokens=DIM).eval()
    decode = GenerationStep(model, prefill.spans).eval()
    for seed, words in enumerate(QUESTIONS):
        with torch.no_grad():
            out = prefill.prefill(*inputs(model, words, seed), initial_state(prefill))
            state = (*out.cache.values(), *decode.initial_notes(1))
            tokens, logits = [], out.logits
            for place in range(DIM):
                tokens.append(int(logits.argmax()))
                position = torch.tensor([[1 + PATCHES + len(words) + place]])
                logits, *state = decode(torch.tensor([tokens[-1:]]), position, *state)
        found = stepped(step, words, seed)
        assert found.tokens[0].tolist() == tokens
        assert found.kept.tolist() == out.kept.tolist()


def test_fastv_keeps_what_the_last_word_of_the_prompt_attends_to(model: OpenVla) -> None:
    step = step_of(model, "fastv", 6, insertion_layer=2, rows="last")
    out = stepped(step, QUESTIONS[0], 0)
    paid = told(QUESTIONS[0], 0, list(range(PATCHES)), 3, out.tokens[0].tolist()).paid
    assert out.kept[0].tolist() == sorted(np.argsort(-paid[1, 0])[:6].tolist())


@pytest.mark.parametrize("action_layers", ["latter_half", "full"])
@pytest.mark.parametrize("keep", [6, PATCHES])
def test_the_history_of_vla_pruner_has_every_row_that_a_token_was_read_from(
    model: OpenVla, action_layers: str, keep: int
) -> None:
    step = step_of(model, "vla_pruner", keep, insertion_layer=2, action_layers=action_layers, window=2)
    full = step_of(model, "vla_pruner", PATCHES, insertion_layer=2, action_layers=action_layers, window=2)
    state, history = initial_state(step), np.zeros((2, PATCHES))
    for seed, words in enumerate(QUESTIONS):
        out = stepped(full if seed < 2 else step, words, seed, state)
        kept, tokens = out.kept[0].tolist(), out.tokens[0].tolist()
        expected = told(words, seed, kept, 2, tokens)
        assert expected.logits.argmax(dim=-1).tolist() == tokens
        layers = [1] if action_layers == "full" else [2]
        attention = expected.paid[layers].mean(axis=(0, 1))
        alone = expected.paid[layers].mean(axis=0)[0]
        assert np.abs(attention - alone).max() > 1e-3  # the first row alone would be seen
        present = np.ones(PATCHES) if action_layers == "full" else np.isin(np.arange(PATCHES), kept)
        weights = np.array([0.8**2, 0.8]) / (0.8**2 + 0.8)
        believed = (1 - present) * (weights @ history)
        seen = attention * present
        history = np.stack([history[1], seen * (1 - believed.sum()) / seen.sum() + believed])
        np.testing.assert_allclose(out.carry[HISTORY][0].numpy(), history, atol=1e-6)
        state = (out.carry[HISTORY],)


def test_what_policies_are_calibrated_with_is_what_the_reference_attends_to(model: OpenVla) -> None:
    frames = [inputs(model, words, seed) for seed, words in enumerate(QUESTIONS)]
    found = measure_prompts(model, frames)
    for seed, words in enumerate(QUESTIONS):
        paid = told(words, seed, list(range(PATCHES)), 0, [0]).paid[:, 0].sum(axis=-1)
        np.testing.assert_allclose(found.action_to_visual[seed], paid, rtol=1e-4)
    assert not np.any(found.visual_to_text)  # it stands behind the picture
    assert np.shape(found.head_outputs) == (3, 4)


def test_a_batch_is_its_robots_one_by_one(model: OpenVla) -> None:
    step = step_of(model, "fastv", 6, insertion_layer=1)
    alone = [stepped(step, words, seed) for seed, words in enumerate(QUESTIONS)]
    parts = [inputs(model, words, seed) for seed, words in enumerate(QUESTIONS)]
    with torch.no_grad():
        images, ids, mask = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        together = step.decode((images, ids, mask), step.named(()))
        actions = step(images, ids, mask)[0]
    assert together.tokens.tolist() == [out.tokens[0].tolist() for out in alone]
    assert actions.shape == (3, 1, DIM)
    assert together.kept.tolist() == [out.kept[0].tolist() for out in alone]


def test_keys_of_the_last_step_serve_every_action_token(model: OpenVla) -> None:
    """vla_cache computes few tokens anew; where the picture stays the same, the action does too."""
    full, few = step_of(model, "vla_cache", PATCHES), step_of(model, "vla_cache", 4)
    first = stepped(full, QUESTIONS[0], 0)
    state = tuple(first.carry[spec.name] for spec in full.carry_specs)
    again = stepped(few, QUESTIONS[0], 0, state)
    assert again.tokens.tolist() == first.tokens.tolist()
    torch.testing.assert_close(again.logits, first.logits, atol=1e-4, rtol=0)
    assert stepped(few, QUESTIONS[0], 1, state).tokens.tolist() != first.tokens.tolist()


def test_the_graph_equals_pytorch_and_has_its_weights_once(tmp_path: Path) -> None:
    """Of a policy with keys of the last step; others go through the whole export in ``acting/test_openvla.py``."""
    small = Reference(fused=False, seed=3)
    model = ours(write(small, tmp_path / "openvla", {"bridge": statistics(3, 3)}))
    step = step_of(model, "vla_cache", 4)
    carry = tuple(torch.rand_like(tensor) for tensor in initial_state(step))
    example = (*inputs(model, QUESTIONS[0], 0), *carry)
    with torch.no_grad():
        expected = step(*example)
    ports = GraphPorts(
        tuple(f"i{n}" for n in range(len(example))), tuple(f"o{n}" for n in range(len(expected)))
    )
    graph = to_graph(step, example, ports, "step")
    lint(graph, "step")
    stored = [value.const_value.size for value in graph.graph.initializers.values()]
    assert stored.count(model.lm_head.weight.numel()) == 2  # three passes, one copy of head and embeddings
    ir.save(graph, tmp_path / "step.onnx")
    session = ort.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    feeds = {name: tensor.numpy() for name, tensor in zip(ports.inputs, example, strict=True)}
    for found, wanted in zip(session.run(None, feeds), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)
