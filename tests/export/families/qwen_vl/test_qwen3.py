"""Qwen3-VL against transformers' own class, from the files that it writes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from saccade.export.families.qwen_vl import qwen3 as qwen3_vl
from saccade.export.families.qwen_vl.config import PIXELS
from saccade.export.families.qwen_vl.qwen3 import read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError, ExportError
from tests.export.families.published import HALF_PROCESSOR, pictures, randomise, save
from tests.export.families.qwen_reference import (
    BEFORE,
    CUTTING,
    END,
    QUESTIONS,
    START,
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
    video_module,
)

PROCESSOR = {**HALF_PROCESSOR, **CUTTING, "size": {"shortest_edge": 512, "longest_edge": 2048}}
PIECES = {"<": 70, "0": 60, "1": 61, "2": 62, "5": 65, "7": 67, ".": 71, " seconds": 72, ">": 73}


def reference(
    *, tied: bool = False, kv_heads: int = 2, layers: int = 4, deep: tuple[int, ...] = (0, 2, 3)
) -> Any:
    """A tiny model of the real class; heads do not add up to the width, and one frequency is left to time."""
    config = transformers.Qwen3VLConfig(
        vision_config={
            "depth": layers + 1,
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_heads": 2,
            "patch_size": 4,
            "out_hidden_size": 40,
            "num_position_embeddings": 49,
            "deepstack_visual_indexes": list(deep),
        },
        text_config={
            "hidden_size": 40,
            "intermediate_size": 64,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": kv_heads,
            "head_dim": 16,
            "vocab_size": 96,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
                "rope_theta": 1e4,
            },
        },
        tie_word_embeddings=tied,
        **TOKENS,
    )
    model = transformers.Qwen3VLForConditionalGeneration(config)
    randomise(model)
    model.tie_weights()
    return model.eval()


def write(theirs: Any, folder: Path) -> Path:
    """A checkpoint with a tokenizer that knows the words of a timestamp."""
    save(theirs, folder, PROCESSOR)
    tokenizer = Tokenizer(models.WordLevel({**PIECES, "?": 0}, unk_token="?"))  # noqa: S106 -- no password
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" seconds|."), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


ours = partial(load, qwen3_vl)


@pytest.mark.parametrize(
    ("tied", "kv_heads", "views", "camera", "deep"),
    [
        (False, 2, 1, (27, 43), (0, 2, 3)),
        (True, 4, 2, (56, 31), (1, 4)),
        (False, 1, 1, (16, 200), ()),
    ],
)
@torch.no_grad()
def test_logits_and_generated_ids_equal_the_reference(
    tmp_path: Path, *, tied: bool, kv_heads: int, views: int, camera: tuple[int, int], deep: tuple[int, ...]
) -> None:
    theirs = reference(tied=tied, kv_heads=kv_heads, deep=deep)
    model = ours(write(theirs, tmp_path / "qwen"), views=views, image_size=camera)
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
    model = ours(write(theirs, tmp_path / "qwen"), frames=frames, views=views, image_size=(27, 35))
    size = video_module().smart_resize(frames, 27, 35, 2, 8, 512, 2048)
    assert model.config.tower.picture_size == size
    images = pictures(views * frames, *size)
    videos = images.reshape(views, frames, *size, 3)
    inputs = {
        **token_inputs(model.prompt_layout, QUESTIONS[0], video=True),
        **video_inputs(videos, PROCESSOR),
    }
    check_same(theirs, model, images, QUESTIONS[0], inputs)


def test_each_clip_stands_behind_its_time(tmp_path: Path) -> None:
    frame = ours(write(reference(), tmp_path / "qwen"), frames=5, frames_per_second=2.0).prompt_layout
    times = Qwen3VLProcessor._calculate_timestamps(None, list(range(5)), 2.0)
    stamps = [[PIECES[piece] for piece in ("<", *f"{time:.1f}", " seconds", ">")] for time in times]
    assert [f"{time:.1f}" for time in times] == ["0.2", "1.2", "2.0"]
    assert list(frame.fixed) == [*BEFORE, *(item for stamp in stamps for item in (*stamp, START, END))]


def test_a_thinned_prompt_equals_the_reference_with_masked_tokens(tmp_path: Path) -> None:
    theirs = reference()
    check_thinned(theirs, ours(write(theirs, tmp_path / "qwen")), PROCESSOR)


def test_deep_features_may_not_be_forgotten(tmp_path: Path) -> None:
    model = ours(write(reference(), tmp_path / "qwen"))
    padded, lengths = text_inputs(QUESTIONS[0])
    embeddings = model.embed(torch.zeros(1, model.layout.visual, 40), padded)
    with pytest.raises(ExportError, match="expected features of 3 tower blocks, found 0; pass what"):
        model.run(embeddings, model.sequence_inputs(lengths))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ((), {"model_type": "qwen3_vl_moe"}, "model_type: expected 'qwen3_vl', found 'qwen3_vl_moe'"),
        (("vision_config",), {"num_position_embeddings": 50}, "expected a square number, found 50"),
        (
            ("vision_config",),
            {"deepstack_visual_indexes": [3, 2]},
            r"expected blocks out of 0\.\.4, ascending, .* found \[3, 2\]",
        ),
        (("vision_config",), {"deepstack_visual_indexes": [5]}, r"expected blocks out of 0\.\.4"),
        (("vision_config", "rope_parameters"), {"rope_type": "default"}, "expected 'axial', found 'default'"),
        (
            ("text_config", "rope_parameters"),
            {"mrope_interleaved": False},
            "mrope_interleaved: expected True, found False",
        ),
    ],
)
def test_a_wrong_config_is_named(
    tmp_path: Path, part: tuple[str, ...], change: dict[str, object], message: str
) -> None:
    folder = write(reference(), tmp_path / "qwen")
    edit_config(folder, part, change)
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(folder), deployment())


def test_biases_that_nothing_here_has_are_left_over(tmp_path: Path) -> None:
    """``attention_bias`` would also give the output projection a bias."""
    folder = write(reference(), tmp_path / "qwen")
    edit_config(folder, ("text_config",), {"attention_bias": True})
    with pytest.raises(CheckpointError, match=r"missing: decoder\.layers\.0\.self_attn\.q_proj\.bias"):
        ours(folder)


def test_the_layout_of_files_on_the_hub_is_read_alike(tmp_path: Path) -> None:
    folder = write(reference(), tmp_path / "qwen")
    expected = read_config(CheckpointFolder(folder), deployment())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config["text_config"].pop("rope_parameters")
    config["text_config"] |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    config["vision_config"].pop("rope_parameters")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_config(CheckpointFolder(folder), deployment()) == expected


def test_defaults_are_those_of_the_class() -> None:
    config = transformers.Qwen3VLConfig()
    for name, value in qwen3_vl._TOWER.items():
        assert getattr(config.vision_config, name) == value, name
    for name, value in qwen3_vl._DEFAULTS.items():
        assert getattr(config, name) == value, name
    assert tuple(Qwen3VLTextRotaryEmbedding(config.text_config).mrope_section) == qwen3_vl._SECTIONS
    assert video_module().Qwen3VLVideoProcessor.size == qwen3_vl._VIDEO_PIXELS
    assert Qwen2VLImageProcessorPil.size == PIXELS


def test_a_video_needs_its_processor_and_a_tokenizer(tmp_path: Path) -> None:
    folder = write(reference(), tmp_path / "qwen")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"expected tokenizer\.json in qwen/ or qwen/tokenizer/, found none"
    ):
        read_config(CheckpointFolder(folder), deployment(frames=4))
    own = {**PROCESSOR, "cap_pixels_per_frame": True}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(own), encoding="utf-8")
    with pytest.raises(CheckpointError, match="cap_pixels_per_frame: expected False, found True"):
        read_config(CheckpointFolder(folder), deployment(frames=4))
    assert np.prod(read_config(CheckpointFolder(folder), deployment()).tower.picture_size) <= 2048
