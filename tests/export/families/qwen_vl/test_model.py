"""Qwen-VL with visual tokens dropped, against transformers' own layers where the same tokens are dropped by hand."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers.vision_utils import get_vision_window_index

from saccade.export.families.qwen_vl.model import QwenVl
from saccade.export.steps import survivors
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillOutputs, PrefillStep, cache_names
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.base import Carry, Place, Selection, SelectionInputs, TokenPolicy, decoder_cut
from saccade.policies.config import PolicyConfig
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError
from tests.export.families.published import pictures, save
from tests.export.families.qwen_reference import (
    IMAGE,
    QUESTIONS,
    resized,
    still_inputs,
    text_inputs,
    token_inputs,
)
from tests.export.families.qwen_vl import test_qwen2_5 as test_qwen2_5_vl
from tests.export.families.qwen_vl import test_qwen3 as test_qwen3_vl

NEW, CAMERA, VIEWS = 5, (27, 43), 2


@pytest.fixture(scope="module", params=[test_qwen2_5_vl, test_qwen3_vl])
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def theirs(family: Any) -> Any:
    return family.reference()


@pytest.fixture(scope="module")
def model(family: Any, theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> QwenVl:
    folder = save(theirs, tmp_path_factory.mktemp("published") / "qwen", family.PROCESSOR)
    found: QwenVl = family.ours(folder, views=VIEWS, image_size=CAMERA)
    return found


def step_of(model: QwenVl, name: str, keep: int, **options: object) -> PrefillStep:
    policy = build_policy(name, options, model_shape(model))
    return PrefillStep(model, policy, keep, new_tokens=NEW).eval()


@torch.no_grad()
def prefilled(step: PrefillStep, question: list[int], seed: int = 0) -> PrefillOutputs:
    model: QwenVl = step.family  # type: ignore[assignment]
    images = torch.from_numpy(resized(pictures(VIEWS, *CAMERA, seed), model.config.tower.picture_size))[None]
    padded, lengths = text_inputs(question)
    return step.prefill(images, padded, model.sequence_inputs(lengths).mask, initial_state(step))


@torch.no_grad()
def dropped_by_hand(
    theirs: Any,
    family: Any,
    model: QwenVl,
    question: list[int],
    kept: list[list[int]],
    seed: int = 0,
    mix: Tensor | None = None,
) -> Tensor:
    """Logits behind a prompt: ``kept[layer]`` are the visual tokens that decoder layer sees.

    Where tokens go for the first time, ``mix`` of all of them, if there is one, takes the place of those that stay.
    """
    inputs = {
        **token_inputs(model.prompt_layout, question, video=False),
        **still_inputs(pictures(VIEWS, *CAMERA, seed), family.PROCESSOR),
    }
    ids, language = inputs["input_ids"], theirs.model.language_model
    positions = theirs.model.get_rope_index(ids, inputs["mm_token_type_ids"], inputs["image_grid_thw"])[0]
    seen = theirs.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
    hidden, places = language.embed_tokens(ids), (ids[0] == IMAGE).nonzero()[:, 0]
    hidden[0, places] = seen.pooler_output
    deep = getattr(seen, "deepstack_features", [])
    alive = torch.arange(ids.shape[1])
    for index, layer in enumerate(language.layers):
        wanted = torch.cat([(ids[0] != IMAGE).nonzero()[:, 0], places[kept[index]]]).sort().values
        if mix is not None and len(wanted) < len(alive):
            hidden[0, places[kept[index]]] = mix @ hidden[0, places]
            deep, mix = (
                [features.index_copy(0, torch.tensor(kept[index]), mix @ features) for features in deep],
                None,
            )
        hidden, alive = hidden[:, torch.isin(alive, wanted)], wanted
        tables = language.rotary_emb(hidden, positions[:, :, alive])
        hidden = layer(hidden, attention_mask=None, position_embeddings=tables)
        if index < len(deep):
            hidden[0, torch.isin(alive, places)] += deep[index][kept[index]]
    logits: Tensor = theirs.lm_head(language.norm(hidden))[:, -1]
    return logits


def kept_by_layer(step: PrefillStep, kept: Tensor) -> list[list[int]]:
    """What each layer sees where there is one cut."""
    (cut,), tokens = step.policy.cuts, list(range(step.family.grid.tokens))
    layers = range(step.family.decoder.config.layers)
    first = cut.index if cut.place is Place.DECODER else 0
    return [tokens if layer < first else kept[0].tolist() for layer in layers]


@pytest.mark.parametrize(
    ("name", "keep", "options"),
    [
        ("keep_all", 30, {}),
        ("divprune", 9, {}),
        ("fastv", 7, {"insertion_layer": 1}),
        ("fastv", 12, {"insertion_layer": 2}),
        ("center_crop", 8, {"insertion_layer": 2}),
        ("random_keep", 5, {"insertion_layer": 0}),
    ],
)
def test_what_survives_is_what_the_reference_has_without_the_others(
    theirs: Any, family: Any, model: QwenVl, name: str, keep: int, options: dict[str, object]
) -> None:
    step = step_of(model, name, keep, **options)
    for seed, question in enumerate(QUESTIONS):
        out = prefilled(step, question, seed)
        assert out.kept.shape[1] == keep
        layers = [list(range(30))] * 9 if name == "keep_all" else kept_by_layer(step, out.kept)
        expected = dropped_by_hand(theirs, family, model, question, layers, seed)
        torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"insertion_layer": 0}, {"insertion_layer": 2}])
def test_words_that_follow_go_on_where_the_reference_s_do(
    theirs: Any, family: Any, model: QwenVl, options: dict[str, object]
) -> None:
    """Word by word from caches of two lengths, against every word from the start: it keeps the same tokens."""
    step = step_of(model, "center_crop", 8, **options)
    decode = GenerationStep(model, step.spans).eval()
    question = list(QUESTIONS[0])
    out = prefilled(step, question)
    state: tuple[Tensor, ...] = tuple(out.cache[name] for name in cache_names(step.spans))
    logits, kept = out.logits, kept_by_layer(step, out.kept)
    for _ in range(NEW):
        place = torch.tensor([[model.first_position + len(question)]])
        question.append(int(logits.argmax()))
        with torch.no_grad():
            logits, *state = decode(torch.tensor([question[-1:]]), place, *state)  # type: ignore[assignment]
        expected = dropped_by_hand(theirs, family, model, question, kept)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


class Pairs(TokenPolicy):
    """Every second token carries the mean of itself and the next one, from decoder layer 1 on."""

    name: ClassVar[str] = "pairs"
    options = PolicyConfig
    merges: ClassVar[bool] = True

    def __init__(self) -> None:
        self.config, self.cuts = PolicyConfig(), decoder_cut(1)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        kept = torch.arange(0, 2 * keep, 2).expand(len(inputs.origin), keep)
        return Selection(kept, self.mix(keep).expand(len(kept), keep, 2 * keep))

    @staticmethod
    def mix(keep: int) -> Tensor:
        return torch.eye(keep).repeat_interleave(2, dim=1) / 2


def test_merged_tokens_have_merged_deep_features(theirs: Any, family: Any, model: QwenVl) -> None:
    step = PrefillStep(model, Pairs(), 15, new_tokens=NEW).eval()
    out, mix = prefilled(step, QUESTIONS[1]), Pairs.mix(15)
    layers = kept_by_layer(step, out.kept)
    expected = dropped_by_hand(theirs, family, model, QUESTIONS[1], layers, mix=mix)
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [test_qwen3_vl], indirect=True)
def test_rows_of_other_tokens_would_be_seen(
    theirs: Any, family: Any, model: QwenVl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison fails where deep features are those of other visual tokens, or are not added at all."""
    step = step_of(model, "center_crop", 8, insertion_layer=1)
    out = prefilled(step, QUESTIONS[0])
    expected = dropped_by_hand(theirs, family, model, QUESTIONS[0], kept_by_layer(step, out.kept))
    take = survivors.take_survivors

    def first_rows(x: Tensor, selection: Selection) -> Tensor:
        return x[:, : selection.kept.shape[1]]

    for wrong in (first_rows, lambda x, selection: 0 * take(x, selection)):
        monkeypatch.setattr(survivors, "take_survivors", wrong)  # deep features alone go through this name
        found = prefilled(step, QUESTIONS[0])
        assert torch.equal(found.kept, out.kept)
        assert float((found.logits - expected).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vflowopt", {"alpha_v": 0.5}, r"Pixels\(\): expected visual tokens that are the tower's patches"),
        ("zero_tprune", {}, "expected no cut inside the tower"),
        ("vla_cache", {}, "needs no keys of the last control step"),
    ],
)
def test_policies_that_ask_for_what_there_is_not_are_refused(
    model: QwenVl, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        step_of(model, name, 9, **options)


@torch.no_grad()
def test_a_map_of_patches_becomes_one_of_visual_tokens(
    theirs: Any, family: Any, model: QwenVl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the attention of the reference's last block, which sees the whole picture, picture by picture."""
    module = sys.modules[type(theirs).__module__]
    seen: list[Tensor] = []
    attend = module.eager_attention_forward

    def listen(*arguments: Any, **others: Any) -> Any:
        output, weights = attend(*arguments, **others)
        seen.append(weights)
        return output, weights

    step = step_of(model, "vflowopt", 12)
    size = model.config.tower.picture_size
    images = torch.from_numpy(resized(pictures(VIEWS, *CAMERA), size))[None]
    text = torch.zeros(1, 1, model.decoder.config.width)
    survivors = step.watch(step.named(initial_state(step)), text, torch.ones(1, 1, dtype=torch.bool))
    step.look(images, survivors)
    (signal,) = step.policy.cuts[0].signals
    found = survivors.signals.read(signal)
    monkeypatch.setattr(module, "eager_attention_forward", listen)
    theirs.model.visual.set_attn_implementation("eager")
    for number, picture in enumerate(pictures(VIEWS, *CAMERA)):
        inputs = still_inputs(picture[None], family.PROCESSOR)
        theirs.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
        expected = seen[-1][0].unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).mean(dim=(2, 4))
        if model.config.tower.window:
            places = get_vision_window_index(inputs["image_grid_thw"], 2, 16, 4)[0].argsort()
            expected = expected[:, places][:, :, places]
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=1e-4)
    theirs.model.visual.set_attn_implementation("sdpa")


@pytest.mark.parametrize("family", [test_qwen2_5_vl], indirect=True)
def test_attention_inside_windows_is_no_attention_to_the_picture(model: QwenVl) -> None:
    with pytest.raises(ExportError, match=r"attend to the whole picture, \[1, 3\], found windows in \[2\]"):
        step_of(model, "vtc_cls", 9, first_block=2)


def test_what_blocks_tell_of_patches_is_averaged_over_each_visual_token(model: QwenVl) -> None:
    """Whatever the order in which patches lie in the tower: here every patch tells where it is."""
    tower = model.config.tower
    rows, columns = torch.arange(tower.rows).float(), torch.arange(tower.columns).float()
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(1, -1, 2)
    told = model.vision.order.arrange(places).expand(VIEWS, -1, -1).reshape(1, -1, 2)
    found = model.arrange_signal(told).reshape(VIEWS, tower.token_rows, tower.token_columns, 2)
    for row in range(tower.token_rows):
        for column in range(tower.token_columns):
            assert found[:, row, column].tolist() == [[2 * row + 0.5, 2 * column + 0.5]] * VIEWS


def test_a_cache_policy_that_renumbers_is_refused(model: QwenVl) -> None:
    step = step_of(model, "keep_all", 30)
    with pytest.raises(ExportError, match=r"positions: expected 'original', .* found 'slots'"):
        GenerationStep(model, step.spans, "spatten_kv", {"positions": "slots"})
