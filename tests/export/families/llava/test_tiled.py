"""Tiled pictures and videos with visual tokens dropped, against layers of transformers where they are dropped by hand.

Line breaks stay, and every token keeps the position that it had; so does a word that follows.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.export.families.llava import next as llava_next
from saccade.export.families.llava import onevision as llava_onevision
from saccade.export.families.llava.tiled import TiledLlava
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillOutputs, PrefillStep, cache_names
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.base import Place
from saccade.policies.registry import build_policy
from tests.export.families.llava import test_next as test_llava_next
from tests.export.families.llava import test_onevision as test_llava_onevision
from tests.export.families.published import normalised, pictures, save
from tests.export.families.tiled_reference import BEFORE, TEXT, prepared

NEW, QUESTION = 4, [11, 12, 13]


class Case(NamedTuple):
    """One deployment of one checkpoint.

    Args:
        theirs: The real class.
        model: Ours, from its files.
        tiles: What the host gives.
        entering: What the reference's decoder gets before the question, ``(1, tokens, width)``.
        places: Where visual tokens stand in that, in their order.
    """

    theirs: Any
    model: TiledLlava
    tiles: NDArray[np.uint8]
    entering: Tensor
    places: Tensor


def tiled(
    tests: Any, family: ModuleType, theirs: Any, folder: Path, size: tuple[int, int], views: int
) -> Case:
    folder = save(theirs, folder, tests.PROCESSOR)
    model: TiledLlava = tests.ours(
        folder, image_size=size if views == 1 or family is llava_next else None, views=views
    )
    seen = pictures(views, *size)
    inputs = tests.inputs(model, seen, [])
    ids = inputs.pop("input_ids")
    with torch.no_grad():
        features = torch.cat(theirs.model.get_image_features(**inputs).pooler_output)
        hidden = theirs.get_input_embeddings()(ids)
    where = (ids[0] == tests.IMAGE_ID).nonzero()[:, 0]
    hidden[0, where] = features
    is_break = (features == theirs.model.image_newline).all(dim=-1)
    return Case(theirs, model, prepared(family, model.config, seen), hidden, where[~is_break])


def filmed(folder: Path, *, newline: str) -> Case:
    tests = test_llava_onevision
    theirs = tests.reference()
    folder = tests.changed(save(theirs, folder, tests.PROCESSOR), "config.json", mm_newline_position=newline)
    model, seen = tests.ours(folder, frames=3), pictures(3, tests.TILE, tests.TILE)
    with torch.no_grad():
        visual = theirs.get_video_features(normalised(seen, tests.PROCESSOR)[None]).pooler_output[0]
        before = theirs.get_input_embeddings()(torch.tensor(BEFORE))
    count = len(visual) - 1  # one line break after the video
    if newline == "grid":
        rows = visual[:count].unflatten(0, (-1, 3))
        visual = torch.cat([rows, visual[-1].expand(len(rows), 1, -1)], dim=1).flatten(0, 1)
        count = len(visual)
    entering = torch.cat([before, visual])[None]
    return Case(theirs, model, seen, entering, torch.arange(count) + len(BEFORE))


@pytest.fixture(
    scope="module",
    params=[
        "next",
        "next of two",
        "onevision",
        "onevision, thinned",
        "onevision of three",
        "video",
        "llava-video",
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("published") / "llava"
    if request.param.startswith("next"):
        theirs = test_llava_next.reference(test_llava_next.MISTRAL)
        views = 2 if request.param.endswith("two") else 1
        return tiled(test_llava_next, llava_next, theirs, folder, (33, 47), views)
    if "video" in request.param:
        return filmed(folder, newline="grid" if request.param == "llava-video" else "one_token")
    theirs = test_llava_onevision.reference(most=1 if request.param.endswith("thinned") else 9)
    views = 3 if request.param.endswith("three") else 1
    return tiled(test_llava_onevision, llava_onevision, theirs, folder, (70, 90), views)


def step_of(case: Case, name: str, keep: int, **options: object) -> PrefillStep:
    policy = build_policy(name, options, model_shape(case.model))
    return PrefillStep(case.model, policy, keep, new_tokens=NEW).eval()


@torch.no_grad()
def prefilled(step: PrefillStep, case: Case) -> PrefillOutputs:
    padded = torch.tensor([[*QUESTION, *[0] * (TEXT - len(QUESTION))]])
    mask = case.model.sequence_inputs(torch.tensor([len(QUESTION)])).mask
    return step.prefill(torch.from_numpy(case.tiles)[None], padded, mask, initial_state(step))


@torch.no_grad()
def dropped_by_hand(case: Case, question: list[int], kept: list[list[int]]) -> Tensor:
    """Logits behind a prompt: ``kept[layer]`` are the visual tokens that decoder layer sees."""
    language, places = case.theirs.model.language_model, case.places
    hidden = torch.cat([case.entering, language.embed_tokens(torch.tensor([question]))], dim=1)
    alive = torch.arange(hidden.shape[1])
    others = alive[~torch.isin(alive, places)]
    for index, layer in enumerate(language.layers):
        wanted = torch.cat([others, places[kept[index]]]).sort().values
        hidden, alive = hidden[:, torch.isin(alive, wanted)], wanted
        tables = language.rotary_emb(hidden, alive[None])
        hidden = layer(hidden, attention_mask=None, position_ids=alive[None], position_embeddings=tables)
    logits: Tensor = case.theirs.lm_head(language.norm(hidden))[:, -1]
    return logits


def kept_by_layer(step: PrefillStep, kept: Tensor) -> list[list[int]]:
    """What each layer sees where there is one cut."""
    (cut,), tokens = step.policy.cuts, list(range(step.family.grid.tokens))
    first = cut.index if cut.place is Place.DECODER else 0
    layers = range(step.family.decoder.config.layers)
    return [tokens if layer < first else kept[0].tolist() for layer in layers]


def test_all_tokens_kept_is_the_reference(case: Case) -> None:
    tokens = case.model.grid.tokens
    assert len(case.places) == tokens
    for name in ("keep_all", "fastv"):
        out = prefilled(step_of(case, name, tokens), case)
        expected = dropped_by_hand(case, QUESTION, [list(range(tokens))] * 3)
        torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("divprune", {}),
        ("vtc_cls", {}),
        ("fastv", {"insertion_layer": 1}),
        ("vla_pruner", {"insertion_layer": 2}),
        ("random_keep", {"insertion_layer": 0}),
    ],
)
def test_what_survives_is_what_the_reference_has_without_the_others(
    case: Case, name: str, options: dict[str, object]
) -> None:
    keep = case.model.grid.tokens // 4
    step = step_of(case, name, keep, **options)
    out = prefilled(step, case)
    assert out.kept.shape[1] == keep
    expected = dropped_by_hand(case, QUESTION, kept_by_layer(step, out.kept))
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"insertion_layer": 0}, {"insertion_layer": 2}])
def test_words_that_follow_go_on_where_the_reference_s_do(case: Case, options: dict[str, object]) -> None:
    """Word by word from caches of two lengths, against every word from the start: it keeps the same tokens."""
    step = step_of(case, "random_keep", case.model.grid.tokens // 3, **options)
    decode = GenerationStep(case.model, step.spans).eval()
    question, out = list(QUESTION), prefilled(step, case)
    state: tuple[Tensor, ...] = tuple(out.cache[name] for name in cache_names(step.spans))
    logits, kept = out.logits, kept_by_layer(step, out.kept)
    for _ in range(NEW):
        place = torch.tensor([[case.model.first_position + len(question)]])
        question.append(int(logits.argmax()))
        with torch.no_grad():
            logits, *state = decode(torch.tensor([question[-1:]]), place, *state)  # type: ignore[assignment]
        expected = dropped_by_hand(case, question, kept)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
