"""LLaVA-NeXT against transformers' own class and image processor, from the files that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from saccade.export.families.deployment import Deployment
from saccade.export.families.llava import next as llava_next
from saccade.export.families.llava.next import LlavaNext, build, key_rules, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError, ExportError
from tests.export.families.published import CLIP_PROCESSOR, pictures, randomise, save
from tests.export.families.tiled_reference import (
    BEFORE,
    BETWEEN,
    TEXT,
    assert_exports,
    assert_same_answer,
    placeholders,
    prepared,
    run,
)

IMAGE_ID, TILE = 90, 21
PINPOINTS = [[TILE * rows, TILE * columns] for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
PROCESSOR: dict[str, Any] = {
    **CLIP_PROCESSOR,
    "size": {"shortest_edge": TILE},
    "crop_size": {"height": TILE, "width": TILE},
    "image_grid_pinpoints": PINPOINTS,
    "do_resize": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
TEXT_MODEL = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 96,
}


def reference(text_config: Any, *, tied: bool = False, layer: int = -2) -> Any:
    """A tiny model of the real class; the tower's patches leave a pixel over, heads do not add up to the width."""
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=TILE,
            patch_size=5,
        ),
        text_config=text_config,
        image_token_index=IMAGE_ID,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=layer,
        tie_word_embeddings=tied,
    )
    model = transformers.LlavaNextForConditionalGeneration(config)
    randomise(model)
    model.tie_weights()
    return model.eval()


VICUNA = transformers.LlamaConfig(**TEXT_MODEL, rms_norm_eps=1e-5)
MISTRAL = transformers.MistralConfig(
    **TEXT_MODEL,
    rms_norm_eps=1e-5,
    sliding_window=None,
    rope_parameters={"rope_type": "default", "rope_theta": 1e6},
)


def ours(folder: Path, image_size: tuple[int, int], views: int = 1) -> LlavaNext:
    config = read_config(
        CheckpointFolder(folder),
        Deployment(before=BEFORE, between=BETWEEN, max_text_tokens=TEXT, image_size=image_size, views=views),
    )
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    return model.eval()


def inputs(model: LlavaNext, views: Any, question: list[int]) -> dict[str, Any]:
    """What the reference's processor makes of the pictures and the prompt."""
    processor = LlavaNextImageProcessorPil(**PROCESSOR)
    seen = processor.preprocess(list(views), return_tensors="pt")
    ids = torch.tensor([[*placeholders(model, IMAGE_ID), *question]])
    return {
        "input_ids": ids,
        "pixel_values": seen["pixel_values"].float(),
        "image_sizes": seen["image_sizes"],
    }


@pytest.mark.parametrize(
    ("text_config", "tied", "layer", "image_size", "views", "grid"),
    [
        (VICUNA, False, -2, (33, 47), 1, (6, 8)),
        (MISTRAL, False, -2, (70, 31), 1, (10, 4)),
        (MISTRAL, True, 2, (30, 64), 2, (4, 8)),
        (VICUNA, True, -1, (16, 16), 2, (4, 4)),
    ],
)
def test_answers_equal_the_reference(
    tmp_path: Path,
    text_config: Any,
    *,
    tied: bool,
    layer: int,
    image_size: tuple[int, int],
    views: int,
    grid: tuple[int, int],
) -> None:
    theirs = reference(text_config, tied=tied, layer=layer)
    folder = save(theirs, tmp_path / "next", PROCESSOR)
    model = ours(folder, image_size, views)
    assert model.config.blocks == ((4, 4), grid) * views
    assert model.grid == (
        Grid(2 * views, 4, 4) if grid == (4, 4) else Grid(1, 1, model.prompt_layout.visual, irregular=True)
    )
    for seed, question in enumerate(([11, 12, 13], [50], [3, 4, 5, 6, 7, 8, 9])):
        seen = pictures(views, *image_size, seed)
        tiles = prepared(llava_next, model.config, seen)
        assert_same_answer(theirs, model, tiles, inputs(model, seen, question))


def test_robots_of_a_batch_do_not_touch_each_other(tmp_path: Path) -> None:
    theirs = reference(MISTRAL)
    model = ours(save(theirs, tmp_path / "next", PROCESSOR), (33, 47), views=2)
    questions, seen = [[11, 12, 13], [50]], [pictures(2, 33, 47, seed) for seed in (5, 6)]
    tiles = np.stack([prepared(llava_next, model.config, views) for views in seen])
    with torch.no_grad():
        for question, views, states in zip(questions, seen, run(model, tiles, questions), strict=True):
            expected = theirs(**inputs(model, views, question), output_hidden_states=True).hidden_states[-1][
                0
            ]
            torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


def test_the_graph_is_portable_and_equals_torch(tmp_path: Path) -> None:
    model = ours(save(reference(MISTRAL), tmp_path / "next", PROCESSOR), (33, 47), views=2)
    assert_exports(model, prepared(llava_next, model.config, pictures(2, 33, 47)))


def test_weights_load_under_the_names_of_the_hub_and_of_memory(tmp_path: Path) -> None:
    theirs = reference(VICUNA)
    rules = key_rules(ours(save(theirs, tmp_path / "next", PROCESSOR), (33, 47)).config)
    for stored, name in {
        "model.image_newline": "image_newline",
        "image_newline": "image_newline",
        "language_model.model.layers.0.mlp.up_proj.weight": "decoder.layers.0.mlp.up_proj.weight",
        "model.language_model.norm.weight": "decoder.norm.weight",
        "language_model.lm_head.weight": "lm_head.weight",
        "lm_head.weight": "lm_head.weight",
        "vision_tower.vision_model.pre_layrnorm.bias": "vision.norm_pre.bias",
        "model.multi_modal_projector.linear_2.bias": "projector.fc2.bias",
    }.items():
        assert rules.ours(stored).name == name


def changed(folder: Path, file: str, **fields: object) -> None:
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**values, **fields}))


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"model_type": "llava"}, "model_type: expected 'llava_next', found 'llava'"),
        ("config.json", {"vision_feature_layer": [-2, -5]}, r"expected int, found \[-2, -5\]"),
        ("config.json", {"vision_feature_layer": 0}, "expected -3 to -1 or 1 to 3, found 0; correct"),
        ("config.json", {"vision_feature_layer": -4}, "expected -3 to -1 or 1 to 3, found -4"),
        ("config.json", {"vision_feature_select_strategy": "full"}, "expected 'default', .* found 'full'"),
        (
            "config.json",
            {"projector_hidden_act": "relu"},
            "projector_hidden_act: expected 'gelu', found 'relu'",
        ),
        ("config.json", {"image_grid_pinpoints": []}, "expected in config.json what the image processor"),
        ("config.json", {"image_grid_pinpoints": [[21, "42"]]}, "expected int, found '42'"),
        ("config.json", {"image_grid_pinpoints": 21}, "expected a list of lists of int, found 21"),
        (
            "preprocessor_config.json",
            {"size": {"shortest_edge": 336}},
            "shortest_edge: expected 21, found 336",
        ),
        ("preprocessor_config.json", {"size": None}, "expected the object 'size', found none"),
        (
            "preprocessor_config.json",
            {"crop_size": {"height": 22}},
            "crop_size: height: expected 21, found 22",
        ),
        ("preprocessor_config.json", {"resample": 2}, "resample: expected 3, found 2"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize: expected True, found False"),
    ],
)
def test_what_would_change_the_model_is_refused(
    tmp_path: Path, file: str, fields: dict[str, object], message: str
) -> None:
    folder = save(reference(VICUNA), tmp_path / "next", PROCESSOR)
    changed(folder, file, **fields)
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(folder), Deployment())


@pytest.mark.parametrize(
    ("pinpoints", "message"),
    [
        ([[21, 50]], r"whole tiles of 21 pixels, found \[21, 50\]; correct"),
        ([[21]], r"found \[21\]"),
        ([[0, 21]], r"found \[0, 21\]"),
        ([], "expected at least one, found none"),
    ],
)
def test_canvases_are_whole_tiles(tmp_path: Path, pinpoints: list[list[int]], message: str) -> None:
    folder = save(reference(VICUNA), tmp_path / "next", PROCESSOR)
    for file in ("config.json", "preprocessor_config.json"):
        changed(folder, file, image_grid_pinpoints=pinpoints)
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(folder), Deployment())


def test_a_sequence_longer_than_the_window_is_refused(tmp_path: Path) -> None:
    folder = save(reference(MISTRAL), tmp_path / "next", PROCESSOR)
    values = json.loads((folder / "config.json").read_text())
    tokens = 3 + 16 + 6 * 9 + 64
    for window, fits in ((tokens, True), (tokens - 1, False)):
        values["text_config"]["sliding_window"] = window
        (folder / "config.json").write_text(json.dumps(values))
        deployment = Deployment(before=BEFORE, image_size=(33, 47))
        if fits:
            assert (
                sum(read_config(CheckpointFolder(folder), deployment).prompt_layout.segments.values())
                == tokens
            )
        else:
            with pytest.raises(
                CheckpointError, match=rf"room for the {tokens} tokens .* found {window}; use"
            ):
                read_config(CheckpointFolder(folder), deployment)


def test_video_is_refused(tmp_path: Path) -> None:
    folder = save(reference(VICUNA), tmp_path / "next", PROCESSOR)
    with pytest.raises(ExportError, match=r"expected frames = 0, found 4: .* use LLaVA-OneVision"):
        read_config(CheckpointFolder(folder), Deployment(frames=4))


def test_the_defaults_are_those_of_the_class(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    processor = {**CLIP_PROCESSOR, "size": {"shortest_edge": 336}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    config, theirs = (
        read_config(CheckpointFolder(tmp_path), Deployment(image_size=(672, 672))),
        transformers.LlavaNextConfig(),
    )
    for name, value in llava_next._DEFAULTS.items():
        assert np.array_equal(getattr(theirs, name), value), name
    for name, value in llava_next._TOWER.items():
        assert getattr(theirs.vision_config, name) == value, name
    assert (config.tower.width, config.tower.heads, config.tower.blocks) == (1024, 16, 23)
    assert config.text.decoder.width == theirs.text_config.hidden_size and not config.text.is_tied
    assert config.tiles.canvas == (672, 672)
    assert len(config.prompt_layout.items) == 2928
