"""LLaVA-OneVision against transformers' own class and image processor; LLaVA-Video's line breaks against NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import generate
from saccade.export.families.llava import onevision as llava_onevision
from saccade.export.families.llava.onevision import (
    LlavaOnevision,
    build,
    key_rules,
    read_config,
)
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError
from tests.export.families.published import (
    CLIP_PROCESSOR,
    HALF_PROCESSOR,
    normalised,
    pictures,
    randomise,
    save,
)
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

IMAGE_ID, VIDEO_ID, TILE = 90, 91, 27
PINPOINTS = [[TILE * rows, TILE * columns] for rows in range(1, 5) for columns in range(1, 5)]
PROCESSOR: dict[str, Any] = {
    **HALF_PROCESSOR,
    "size": {"height": TILE, "width": TILE},
    "image_grid_pinpoints": PINPOINTS,
    "do_resize": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
QUESTIONS = ([11, 12, 13], [50], [3, 4, 5, 6, 7, 8, 9])


def reference(*, tied: bool = False, most: int = 9, head: bool = False) -> Any:
    """A tiny model of the real class; 5 x 5 patches leave two pixels over, heads do not add up to the width."""
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=TILE,
            patch_size=5,
            vision_use_head=head,
        ),
        text_config=transformers.Qwen2Config(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=96,
            tie_word_embeddings=tied,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio=f"anyres_max_{most}",
    )
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    randomise(model)
    model.tie_weights()
    return model.eval()


def ours(folder: Path, **deployment: Any) -> LlavaOnevision:
    config = read_config(
        CheckpointFolder(folder),
        Deployment(before=BEFORE, between=BETWEEN, max_text_tokens=TEXT, **deployment),
    )
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    return model.eval()


def inputs(model: LlavaOnevision, views: Any, question: list[int]) -> dict[str, Any]:
    """What the reference's processor makes of the pictures of one conversation, and of the prompt."""
    seen = LlavaOnevisionImageProcessorPil(**PROCESSOR).preprocess([list(views)], return_tensors="pt")
    ids = torch.tensor([[*placeholders(model, IMAGE_ID), *question]])
    return {**seen, "pixel_values": seen["pixel_values"].float(), "input_ids": ids}


def video_inputs(model: LlavaOnevision, frames: Any, videos: int, question: list[int]) -> dict[str, Any]:
    pixels = normalised(frames, PROCESSOR).unflatten(0, (videos, -1))
    ids = torch.tensor([[*placeholders(model, VIDEO_ID), *question]])
    return {"input_ids": ids, "pixel_values_videos": pixels}


@pytest.mark.parametrize(
    ("most", "tied", "image_size", "shown", "thinned"),
    [
        (9, False, (40, 61), (10, 15), False),
        (9, True, (61, 19), (15, 5), False),
        (9, True, (20, 20), (5, 5), False),
        (5, False, (40, 61), (10, 15), False),  # 1.095 times too many along a side: still as it is
        (1, False, (70, 90), (4, 5), True),
        (4, True, (110, 100), (10, 9), True),
    ],
)
def test_answers_about_one_picture_equal_the_reference(
    tmp_path: Path,
    *,
    most: int,
    tied: bool,
    image_size: tuple[int, int],
    shown: tuple[int, int],
    thinned: bool,
) -> None:
    theirs = reference(tied=tied, most=most, head=tied)
    model = ours(save(theirs, tmp_path / "onevision", PROCESSOR), image_size=image_size)
    assert model.config.blocks == ((5, 5), shown)
    assert (model.config.resampling is not None) == thinned
    assert model.grid == (
        Grid(2, 5, 5) if shown == (5, 5) else Grid(1, 1, 25 + shown[0] * shown[1], irregular=True)
    )
    for seed, question in enumerate(QUESTIONS):
        seen = pictures(1, *image_size, seed)
        tiles = prepared(llava_onevision, model.config, seen)
        assert_same_answer(theirs, model, tiles, inputs(model, seen, question))


def test_answers_about_several_pictures_equal_the_reference(tmp_path: Path) -> None:
    theirs = reference()
    model = ours(save(theirs, tmp_path / "onevision", PROCESSOR), views=3)
    assert model.grid == Grid(3, 5, 5)
    for seed, question in enumerate(QUESTIONS):
        seen = pictures(3, 40, 61, seed)
        assert_same_answer(
            theirs, model, prepared(llava_onevision, model.config, seen), inputs(model, seen, question)
        )


@pytest.mark.parametrize(("frames", "videos"), [(1, 1), (4, 1), (3, 2)])
def test_answers_about_videos_equal_the_reference(tmp_path: Path, frames: int, videos: int) -> None:
    theirs = reference()
    model = ours(save(theirs, tmp_path / "onevision", PROCESSOR), frames=frames, views=videos)
    assert model.grid == Grid(frames * videos, 3, 3)
    for seed, question in enumerate(QUESTIONS):
        seen = pictures(frames * videos, TILE, TILE, seed)
        tiles = prepared(llava_onevision, model.config, seen)
        np.testing.assert_array_equal(tiles, seen)
        assert_same_answer(theirs, model, tiles, video_inputs(model, seen, videos, question))


def test_robots_of_a_batch_do_not_touch_each_other(tmp_path: Path) -> None:
    theirs = reference(most=1)
    model = ours(save(theirs, tmp_path / "onevision", PROCESSOR), image_size=(70, 90))
    questions, seen = [[11, 12, 13], [50]], [pictures(1, 70, 90, seed) for seed in (5, 6)]
    tiles = np.stack([prepared(llava_onevision, model.config, views) for views in seen])
    with torch.no_grad():
        for question, views, states in zip(questions, seen, run(model, tiles, questions), strict=True):
            expected = theirs(**inputs(model, views, question), output_hidden_states=True).hidden_states[-1][
                0
            ]
            torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("deployment", [{"image_size": (70, 90)}, {"frames": 2, "views": 2}])
def test_the_graph_is_portable_and_equals_torch(tmp_path: Path, deployment: dict[str, Any]) -> None:
    model = ours(save(reference(most=1), tmp_path / "onevision", PROCESSOR), **deployment)
    count = max(deployment.get("frames", 0), 1) * deployment.get("views", 1)
    assert_exports(model, prepared(llava_onevision, model.config, pictures(count, 70, 90)))


def changed(folder: Path, file: str, **fields: object) -> Path:
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**values, **fields}))
    return folder


def test_line_breaks_of_llava_video_stand_after_each_row_of_each_frame(tmp_path: Path) -> None:
    frames, question = 2, [11, 12, 13]
    theirs = reference()
    folder = save(theirs, tmp_path / "video", PROCESSOR)
    changed(folder, "config.json", mm_newline_position="grid", mm_spatial_pool_mode="bilinear")
    model = ours(folder, frames=frames)
    seen = pictures(frames, TILE, TILE)
    table = theirs.get_input_embeddings().weight
    with torch.no_grad():
        pooled = theirs.get_video_features(normalised(seen, PROCESSOR)[None]).pooler_output[0, :-1].numpy()
        newline = theirs.model.image_newline.numpy()
        rows = [table[list(BEFORE)].numpy()]
        for row in pooled.reshape(frames * 3, 3, -1):
            rows += [row, newline[None]]
        embeddings = torch.from_numpy(np.concatenate([*rows, table[question].numpy()]))[None]
        expected = theirs(inputs_embeds=embeddings, output_hidden_states=True)
        (states,) = run(model, seen[None], [question])
        torch.testing.assert_close(states, expected.hidden_states[-1][0], atol=1e-4, rtol=1e-4)
        generated = theirs.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.int64),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        visual = model.embed_visual(model.visual_tokens(torch.from_numpy(seen)[None]))
        padded = torch.tensor([[*question, *[0] * (TEXT - 3)]])
        assert generate(model, visual, padded, torch.tensor([3]), 6).tolist() == generated.tolist()


@pytest.mark.parametrize(
    ("position", "tokens", "grid"),
    [("grid", 210 * 32, Grid(32, 14, 15, newline=True)), ("one_token", 196 * 32 + 1, Grid(32, 14, 14))],
)
def test_the_published_figures_of_video(tmp_path: Path, position: str, tokens: int, grid: Grid) -> None:
    processor = {**HALF_PROCESSOR, "size": {"height": 384, "width": 384}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "config.json").write_text(json.dumps({"mm_newline_position": position}))
    config = read_config(CheckpointFolder(tmp_path), Deployment(frames=32))
    assert (len(config.prompt_layout.items), config.grid) == (tokens, grid)


def test_the_defaults_are_those_of_the_class(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    processor = {**HALF_PROCESSOR, "size": {"height": 384, "width": 384}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    config, theirs = (
        read_config(CheckpointFolder(tmp_path), Deployment(image_size=(2304, 2304))),
        transformers.LlavaOnevisionConfig(),
    )
    for name, value in llava_onevision._DEFAULTS.items():
        if name != "mm_newline_position":
            assert np.array_equal(getattr(theirs, name), value), name
    for name, value in llava_onevision.TOWER.items():
        assert getattr(theirs.vision_config, name) == value, name
    assert (config.tower.width, config.tower.heads, config.tower.blocks) == (1152, 16, 26)
    assert config.text.decoder.width == theirs.text_config.hidden_size and config.text.decoder.qkv_bias
    # 162 x 162 patches are thinned to nine tiles' worth: 2.0 along each side, 81 x 81.
    assert config.blocks == ((27, 27), (81, 81)) and config.grid == Grid(1, 1, 729 + 81 * 81, irregular=True)
    assert config.tiles is not None and config.tiles.tiles == 37


def test_the_video_processor_is_read_where_there_is_one(tmp_path: Path) -> None:
    folder = save(reference(), tmp_path / "onevision", PROCESSOR)
    assert read_config(CheckpointFolder(folder), Deployment(frames=2)).tower.pixel_mean == (0.5, 0.5, 0.5)
    video = {**CLIP_PROCESSOR, "size": {"height": TILE, "width": TILE}}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    assert read_config(CheckpointFolder(folder), Deployment(frames=2)).tower.pixel_mean == tuple(
        CLIP_PROCESSOR["image_mean"]
    )
    assert read_config(CheckpointFolder(folder), Deployment()).tower.pixel_mean == (0.5, 0.5, 0.5)
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        (folder / name).unlink()
    both = {"image_processor": PROCESSOR, "video_processor": video}
    (folder / "processor_config.json").write_text(json.dumps(both))
    assert read_config(CheckpointFolder(folder), Deployment(frames=2)).tower.pixel_mean == tuple(
        CLIP_PROCESSOR["image_mean"]
    )
    assert read_config(CheckpointFolder(folder), Deployment()).tower.pixel_mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("fields", "frames", "message"),
    [
        ({"model_type": "llava_next"}, 0, "model_type: expected 'llava_onevision', found 'llava_next'"),
        ({"vision_feature_select_strategy": "default"}, 0, "expected 'full', .* found 'default', with which"),
        ({"vision_aspect_ratio": "pad"}, 0, "expected 'anyres_max_' and a number of tiles, found 'pad'"),
        ({"vision_aspect_ratio": "anyres_max_0"}, 0, "found 'anyres_max_0'; correct config.json"),
        ({"mm_newline_position": "frame"}, 2, "expected 'one_token' or 'grid', found 'frame'"),
        (
            {"mm_spatial_pool_mode": "average"},
            2,
            "mm_spatial_pool_mode: expected 'bilinear', found 'average'",
        ),
        ({"mm_spatial_pool_stride": 4}, 2, "mm_spatial_pool_stride: expected 2, found 4"),
        ({"add_faster_video": True}, 2, "add_faster_video: expected False, found True"),
    ],
)
def test_what_would_change_the_model_is_refused(
    tmp_path: Path, fields: dict[str, object], frames: int, message: str
) -> None:
    folder = changed(save(reference(), tmp_path / "onevision", PROCESSOR), "config.json", **fields)
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(folder), Deployment(frames=frames))
