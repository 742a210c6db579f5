"""Qwen2.5-VL against transformers' own class, from the files that it writes."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.vision_utils import get_vision_window_index

from saccade.export.families.prompt_layout import VISUAL_TOKEN, PromptLayout
from saccade.export.families.qwen_vl import qwen2_5 as qwen2_5_vl
from saccade.export.families.qwen_vl.config import MARKS
from saccade.export.families.qwen_vl.model import prompt_positions
from saccade.export.families.qwen_vl.qwen2_5 import clip_times, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError, ExportError
from tests.export.families.published import CLIP_PROCESSOR, pictures, randomise, save
from tests.export.families.qwen_reference import (
    CUTTING,
    QUESTIONS,
    TOKENS,
    check_same,
    check_thinned,
    deployment,
    edit_config,
    load,
    resized,
    still_inputs,
    text_inputs,
    token_inputs,
    video_inputs,
)

PROCESSOR = {**CLIP_PROCESSOR, **CUTTING, "min_pixels": 512, "max_pixels": 2048}


def reference(*, tied: bool = False, kv_heads: int = 2, layers: int = 3) -> Any:
    """A tiny model of the real class: windows of 2 x 2 visual tokens, so that 3 x 5 have borders of every kind."""
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": layers + 1,
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "out_hidden_size": 48,
            "fullatt_block_indexes": [1, layers],
            "tokens_per_second": 2,
        },
        text_config={
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": kv_heads,
            "vocab_size": 96,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 3], "rope_theta": 1e4},
            "bos_token_id": None,
            "eos_token_id": None,
        },
        tie_word_embeddings=tied,
        **TOKENS,
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    randomise(model)
    model.tie_weights()
    return model.eval()


ours = partial(load, qwen2_5_vl)


@pytest.mark.parametrize(
    ("tied", "kv_heads", "views", "camera", "tokens"),
    [
        (False, 2, 1, (27, 43), (3, 5)),
        (True, 4, 2, (56, 31), (7, 4)),
        (False, 1, 1, (16, 200), (1, 20)),
    ],
)
@torch.no_grad()
def test_logits_and_generated_ids_equal_the_reference(
    tmp_path: Path, *, tied: bool, kv_heads: int, views: int, camera: tuple[int, int], tokens: tuple[int, int]
) -> None:
    theirs = reference(tied=tied, kv_heads=kv_heads)
    model = ours(save(theirs, tmp_path / "qwen", PROCESSOR), views=views, image_size=camera)
    grid = model.grid
    assert (grid.views, grid.rows, grid.columns) == (views, *tokens)
    assert model.first_position == model.sequence_inputs(torch.tensor([1])).positions.max()
    for seed, question in enumerate(QUESTIONS):
        images = pictures(views, *camera, seed)
        inputs = {
            **token_inputs(model.prompt_layout, question, video=False),
            **still_inputs(images, PROCESSOR),
        }
        check_same(theirs, model, resized(images, model.config.tower.picture_size), question, inputs)


@pytest.mark.parametrize(("frames", "views"), [(4, 1), (5, 1), (2, 2)])
@torch.no_grad()
def test_videos_equal_the_reference(tmp_path: Path, frames: int, views: int) -> None:
    theirs = reference()
    model = ours(
        save(theirs, tmp_path / "qwen", PROCESSOR), frames=frames, views=views, frames_per_second=4.0
    )
    size = model.config.tower.picture_size
    images = pictures(views * frames, *size)
    videos = images.reshape(views, frames, *size, 3)
    inputs = {
        **token_inputs(model.prompt_layout, QUESTIONS[0], video=True),
        **video_inputs(videos, PROCESSOR),
        "second_per_grid_ts": torch.tensor([0.5] * views),
    }
    check_same(theirs, model, images, QUESTIONS[0], inputs)


@torch.no_grad()
def test_robots_of_a_batch_are_those_alone(tmp_path: Path) -> None:
    model = ours(save(reference(), tmp_path / "qwen", PROCESSOR), views=2)
    size = model.config.tower.picture_size
    images = torch.from_numpy(pictures(6, *size)).reshape(3, 2, *size, 3)
    padded, lengths = text_inputs(*QUESTIONS)
    inputs = model.sequence_inputs(lengths)
    together = model.run(model.embed(model.embed_visual(model.features(images).last), padded), inputs)
    for robot in range(3):
        own = slice(robot, robot + 1)
        visual = model.embed_visual(model.features(images[own]).last)
        alone = model.run(model.embed(visual, padded[own]), model.sequence_inputs(lengths[own]))
        mask = inputs.mask[own]
        torch.testing.assert_close(together[own][mask], alone[mask], atol=1e-5, rtol=1e-5)


def test_a_thinned_prompt_equals_the_reference_with_masked_tokens(tmp_path: Path) -> None:
    theirs = reference()
    check_thinned(theirs, ours(save(theirs, tmp_path / "qwen", PROCESSOR)), PROCESSOR)


@torch.no_grad()
def test_the_layout_of_files_on_the_hub_is_read_alike(tmp_path: Path) -> None:
    """Text settings on top, sections in ``rope_scaling``, processor sizes by their old names, keys under ``model``."""
    folder = save(reference(), tmp_path / "new", PROCESSOR)
    expected = ours(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    for name in ("model_type", "tie_word_embeddings"):
        text.pop(name, None)
    text |= {"rope_theta": rope["rope_theta"]}
    text |= {"rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    config["vision_config"]["in_chans"] = config["vision_config"].pop("in_channels")
    (folder / "config.json").write_text(json.dumps(config | text), encoding="utf-8")
    weights = {
        name if name.startswith(("model.", "lm_head.")) else f"model.{name}": tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(
        {name.replace("model.layers.", "model.language_model.layers."): x for name, x in weights.items()},
        folder / "model.safetensors",
    )
    found = ours(folder)
    assert found.config == expected.config
    assert all(torch.equal(x, found.state_dict()[name]) for name, x in expected.state_dict().items())


@pytest.mark.parametrize("size", [{"height": 28, "width": 28}, {"min_pixels": 512, "max_pixels": 2048}])
def test_a_size_that_the_class_does_not_take_is_refused(tmp_path: Path, size: dict[str, int]) -> None:
    given = {name: value for name, value in PROCESSOR.items() if not name.endswith("_pixels")}
    folder = save(reference(), tmp_path / "qwen", {**given, "size": size})
    with pytest.raises(CheckpointError, match="size: expected 'shortest_edge', found none"):
        ours(folder)


@torch.no_grad()
def test_query_and_key_of_a_block_are_the_reference_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a block without windows: there the reference too attends to all patches at once."""
    theirs = reference()
    theirs.model.visual.set_attn_implementation("eager")
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    attend = modeling_qwen2_5_vl.eager_attention_forward

    def listen(module: Any, query: Any, key: Any, *rest: Any, **others: Any) -> Any:
        seen.append((query, key))
        return attend(module, query, key, *rest, **others)

    monkeypatch.setattr(modeling_qwen2_5_vl, "eager_attention_forward", listen)
    tower = ours(save(theirs, tmp_path / "qwen", PROCESSOR)).vision
    images = pictures(1, *tower.config.picture_size)
    inputs = still_inputs(images, PROCESSOR)
    grid = inputs["image_grid_thw"]
    theirs.model.visual(inputs["pixel_values"], grid_thw=grid)
    places = get_vision_window_index(grid, 2, 16, 4)[0].argsort()
    hidden = tower.begin(torch.from_numpy(images).float())
    output = tower.blocks[1](tower.blocks[0](hidden).hidden)
    whole = next(pair for pair in seen if pair[0].shape[2] == 60)
    for found, expected in zip((output.query, output.key), whole, strict=True):
        tokens = expected.transpose(1, 2).reshape(1, 15, -1)[:, places]
        torch.testing.assert_close(
            tower.finish(found.transpose(1, 2).flatten(2)), tokens, atol=1e-4, rtol=1e-4
        )


def test_defaults_are_those_of_the_class() -> None:
    config = transformers.Qwen2_5_VLConfig()
    for name, value in qwen2_5_vl._TOWER.items():
        found = getattr(config.vision_config, name)
        assert (tuple(found) if isinstance(found, list) else found) == value, name
    for name in (*MARKS, "tie_word_embeddings"):
        assert getattr(config, name) == qwen2_5_vl._DEFAULTS[name], name
    rotary = modeling_qwen2_5_vl.Qwen2_5_VLRotaryEmbedding(config.text_config)
    assert tuple(rotary.mrope_section) == qwen2_5_vl._SECTIONS
    # The video processor's module cannot be imported without torchvision.
    source = Path(transformers.__file__).parent / "models/qwen2_vl/video_processing_qwen2_vl.py"
    (size,) = re.findall(r"^    size = (\{.*\})$", source.read_text(encoding="utf-8"), re.MULTILINE)
    assert eval(size) == qwen2_5_vl._VIDEO_PIXELS  # noqa: S307 -- a product of numbers


def test_text_goes_on_behind_a_video_that_lasts_longer_than_it_is_wide() -> None:
    frame = PromptLayout((5, *[VISUAL_TOKEN] * 12, 6), 2)
    found = prompt_positions(frame, (0, 50, 100), 2, 2)
    assert [place[0] for place in found] == [0, *[1] * 4, *[51] * 4, *[101] * 4, 102, 103, 104]
    assert [place[1:] for place in found[1:5]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert found[-2:] == [(103,) * 3, (104,) * 3]


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0, 4.0, 7.0, 29.97])
def test_clips_lie_on_the_time_axis_where_the_reference_has_them(rate: float) -> None:
    theirs = reference()
    seconds = torch.tensor([2 / rate])
    ids = torch.full((1, 9), 91)
    expected, _ = theirs.model.get_rope_index(
        ids, torch.full_like(ids, 2), video_grid_thw=torch.tensor([[9, 2, 2]]), second_per_grid_ts=seconds
    )
    assert clip_times(9, 2 / rate, 2) == tuple(expected[0, 0].tolist())


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ((), {"model_type": "qwen2_vl"}, "model_type: expected 'qwen2_5_vl', found 'qwen2_vl'"),
        (("vision_config",), {"hidden_act": "relu"}, "hidden_act: expected one of silu, .* found 'relu'"),
        (("vision_config",), {"num_heads": 3}, "multiple of 4 times num_heads = 3, found 32"),
        (("vision_config",), {"patch_size": 5}, "patch_size: expected 5, found 4"),
        (("vision_config",), {"out_hidden_size": 40}, "out_hidden_size: expected 48 .* found 40"),
        (
            ("text_config", "rope_parameters"),
            {"mrope_section": [1, 2, 2]},
            r"add up to 6, half of a head's channels, found \[1, 2, 2\]",
        ),
        (
            ("text_config", "rope_parameters"),
            {"mrope_interleaved": True},
            "mrope_interleaved: expected False, found True",
        ),
        (
            ("text_config",),
            {"use_sliding_window": True, "sliding_window": 40},
            "expected room for the 60 tokens of this deployment, found 40",
        ),
    ],
)
def test_a_wrong_config_is_named(
    tmp_path: Path, part: tuple[str, ...], change: dict[str, object], message: str
) -> None:
    folder = save(reference(), tmp_path / "qwen", PROCESSOR)
    edit_config(folder, part, change)
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(folder), deployment(max_text_tokens=40))


def test_a_deployment_without_a_size_is_refused(tmp_path: Path) -> None:
    folder = save(reference(), tmp_path / "qwen", PROCESSOR)
    with pytest.raises(
        ExportError, match=r"expected the size of the pictures, found none: .* --image-size 640x480"
    ):
        read_config(CheckpointFolder(folder), deployment(image_size=None))


def test_a_picture_inside_one_window_has_no_windows(tmp_path: Path) -> None:
    folder = save(reference(), tmp_path / "qwen", PROCESSOR)
    edit_config(folder, ("vision_config",), {"window_size": 64})
    assert read_config(CheckpointFolder(folder), deployment()).tower.windowed_blocks == frozenset()
    edit_config(folder, ("vision_config",), {"window_size": 16})
    assert read_config(CheckpointFolder(folder), deployment()).tower.windowed_blocks == {0, 2}
