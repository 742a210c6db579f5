"""Prefill and decode against the same model run from the start for every word."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from saccade.export.families.generating import GeneratingModel, generate
from saccade.export.families.llava.llava import Llava
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillOutputs, PrefillStep, cache_names
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError
from tests.export.families.llava.test_llava import PROCESSOR, TEXT, ours, reference
from tests.export.families.published import pictures, save

NEW = 7
QUESTION = [11, 12, 13, 14]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Llava:
    return ours(save(reference(), tmp_path_factory.mktemp("llava"), PROCESSOR))


def inputs(model: GeneratingModel, words: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    lengths = torch.tensor([len(words)])
    padded = torch.tensor([[*words, *[0] * (TEXT - len(words))]])
    mask = model.sequence_inputs(lengths).mask
    return torch.from_numpy(pictures(1, 20, 20, seed))[None], padded, mask


def step_of(model: Llava, name: str, keep: int, **options: object) -> PrefillStep:
    policy = build_policy(name, options, model_shape(model))
    return PrefillStep(model, policy, keep, new_tokens=NEW).eval()


def prefilled(prefill: PrefillStep, words: list[int]) -> PrefillOutputs:
    with torch.no_grad():
        return prefill.prefill(*inputs(prefill.family, words), initial_state(prefill))


def decoded(
    prefill: PrefillStep, words: list[int], new: int = NEW, kv_policy: str = "keep_all_kv", **options: object
) -> tuple[list[int], list[Tensor]]:
    """Generate greedily with the two steps; ids and the logits they came from."""
    decode = GenerationStep(prefill.family, prefill.spans, kv_policy, options).eval()
    out = prefilled(prefill, words)
    with torch.no_grad():
        logits, caches = [out.logits], tuple(out.cache[name] for name in cache_names(prefill.spans))
        state = (*caches, *decode.initial_notes(1))
        ids = [int(out.logits.argmax())]
        for number in range(new - 1):
            place = torch.tensor([[len(prefill.family.prompt_layout.items) + len(words) + number]])
            scores, *state = decode(torch.tensor([[ids[-1]]]), place, *state)
            logits.append(scores)
            ids.append(int(scores.argmax()))
    return ids, logits


def test_with_every_token_it_is_the_whole_model_word_by_word(model: Llava) -> None:
    prefill = step_of(model, "keep_all", 16)
    images, padded, *_ = inputs(model, QUESTION)
    with torch.no_grad():
        visual = model.embed_visual(model.visual_tokens(images))
        expected = generate(model, visual, padded, torch.tensor([len(QUESTION)]), NEW)
    assert decoded(prefill, QUESTION)[0] == expected[0].tolist()


@pytest.mark.parametrize(
    ("name", "keep", "options", "spans"),
    [
        ("center_crop", 4, {}, [(3, 4)]),
        ("center_crop", 5, {"insertion_layer": 2}, [(2, 16), (1, 5)]),
        ("divprune", 6, {}, [(3, 6)]),
        ("vtc_cls", 8, {}, [(3, 8)]),
        ("todre", 8, {"stage2": "on", "stage2_layer": 2}, [(2, 8), (1, 0)]),
    ],
)
def test_pruned_caches_answer_as_the_pruned_model_does(
    model: Llava, name: str, keep: int, options: dict[str, object], spans: list[tuple[int, int]]
) -> None:
    """These choose by the picture alone, so the prompt with the words that were generated keeps the same tokens."""
    prefill = step_of(model, name, keep, **options)
    whole = model.layout.tokens - model.layout.visual
    assert [(len(span.layers), span.prompt - whole) for span in prefill.spans] == spans
    ids, logits = decoded(prefill, QUESTION)
    for number in range(NEW):
        again = prefilled(prefill, [*QUESTION, *ids[:number]])
        torch.testing.assert_close(logits[number], again.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("token_select", {"initial": 4, "top_k": 40, "local": 8, "pool": 3}),
        ("spatten_kv", {"importance": "cumulative"}),
        ("scissorhands", {"recent": 2, "window": 5}),
    ],
)
def test_kv_policies_that_need_not_choose_change_nothing(
    model: Llava, name: str, options: dict[str, object]
) -> None:
    """The caches hold prompt and answer, so whoever gives up slots does so with the last token at the earliest."""
    prefill = step_of(model, "center_crop", 5, insertion_layer=2)
    everything = decoded(prefill, QUESTION)[1]
    for ours_, theirs in zip(
        decoded(prefill, QUESTION, kv_policy=name, **options)[1], everything, strict=True
    ):
        torch.testing.assert_close(ours_, theirs, atol=1e-4, rtol=1e-4)


def test_a_query_that_may_choose_few_slots_answers_otherwise(model: Llava) -> None:
    prefill = step_of(model, "keep_all", 16)
    few = decoded(prefill, QUESTION, kv_policy="token_select", initial=1, top_k=2, local=1)[1]
    assert not torch.allclose(few[1], decoded(prefill, QUESTION)[1][1], atol=1e-3)


def test_dropped_tokens_are_in_no_later_cache(model: Llava) -> None:
    prefill = step_of(model, "fastv", 5, insertion_layer=1)
    out = prefilled(prefill, QUESTION)
    fixed = len(model.prompt_layout.fixed)
    text = set(range(len(model.prompt_layout.items), len(model.prompt_layout.items) + len(QUESTION)))
    first, second = (out.cache[f"carry.slot_positions.{number}"] for number in range(2))
    assert set(first[0, 0, 0].tolist()) == {-1, *range(len(model.prompt_layout.items)), *text}
    kept = {fixed + token for token in out.kept[0].tolist()}
    assert set(second[0, 0, 0].tolist()) == {-1, *range(fixed), *kept, *text}


@pytest.mark.parametrize(
    ("name", "options"), [("fastv", {"insertion_layer": 1}), ("sparsevlm", {}), ("keep_all", {})]
)
def test_the_graphs_equal_pytorch(
    model: Llava, tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    prefill = step_of(model, name, 16 if name == "keep_all" else 6, **options)
    decode = GenerationStep(model, prefill.spans).eval()
    expected = same_in_onnx(
        prefill, (*inputs(model, QUESTION), *initial_state(prefill)), tmp_path / "prefill.onnx"
    )
    caches = expected[2 + prefill.tells_fate :][: len(cache_names(prefill.spans))]
    word = (torch.tensor([[5]]), torch.tensor([[len(model.prompt_layout.items) + len(QUESTION)]]), *caches)
    same_in_onnx(decode, word, tmp_path / "decode.onnx")


def same_in_onnx(module: torch.nn.Module, example: tuple[Tensor, ...], path: Path) -> tuple[Tensor, ...]:
    """Compare a module with its graph in ONNX Runtime; return what it gave."""
    with torch.no_grad():
        expected: tuple[Tensor, ...] = module(*example)
    ports = GraphPorts(
        tuple(f"i{n}" for n in range(len(example))), tuple(f"o{n}" for n in range(len(expected)))
    )
    ir.save(to_graph(module, example, ports, path.name), path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {name: tensor.numpy() for name, tensor in zip(ports.inputs, example, strict=True)}
    for ours_, theirs in zip(session.run(None, feeds), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours_), theirs, atol=1e-4, rtol=1e-4)
    return expected


def test_reuse_of_the_last_step_is_refused(model: Llava) -> None:
    with pytest.raises(ExportError, match="needs no keys of the last control step"):
        step_of(model, "vla_cache", 4)
