"""``generation_config.json`` as transformers reads it: how draws go, what is refused, what is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.generation_settings import picture_id, read_token_choice
from saccade.proto.errors import CheckpointError
from saccade.proto.token_choice import GREEDY, TokenChoice
from saccade.runtime.answering.sampling import Sampler, Sampling


def read(folder: Path, name: str = "generation_config.json", **settings: Any) -> TokenChoice:
    (folder / "config.json").write_text("{}")
    (folder / name).write_text(json.dumps(settings))
    return read_token_choice(CheckpointFolder(folder), 200)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
        {"temperature": 1.3, "top_p": 0.5, "top_k": 0},
        {"top_p": 0.95},  # top_k is 50 then
        {},
    ],
)
def test_tokens_are_drawn_with_the_odds_of_transformers(tmp_path: Path, settings: dict[str, Any]) -> None:
    choice = read(tmp_path, do_sample=True, **settings)
    config = GenerationConfig(do_sample=True, **settings)
    config.update(**config._get_default_generation_params(), defaults_only=True)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=200))
    theirs = model._get_logits_processor(config, input_ids_seq_length=1)
    for seed in range(5):
        logits = np.random.default_rng(seed).normal(0, 3, 200).astype(np.float32)
        scores = theirs(torch.zeros(1, 1, dtype=torch.int64), torch.from_numpy(logits)[None])
        expected = torch.softmax(scores.double(), dim=-1)[0].numpy()
        order, odds = Sampler(Sampling.of(choice)).odds(logits)
        found = np.zeros(200)
        found[order] = odds
        np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_beams", 4),
        ("penalty_alpha", 0.6),
        ("guidance_scale", 1.5),
        ("stop_strings", ["###"]),
        ("min_length", 10),
        ("encoder_repetition_penalty", 1.3),
        ("encoder_no_repeat_ngram_size", 3),
        ("sequence_bias", [[[1], 2.0]]),
        ("forced_decoder_ids", [[1, 2]]),
        ("exponential_decay_length_penalty", [3, 1.1]),
    ],
)
def test_what_nothing_here_does_is_refused(tmp_path: Path, setting: str, value: object) -> None:
    with pytest.raises(
        CheckpointError, match=rf"{setting}: expected .*, found .*: nothing here generates so; take"
    ):
        read(tmp_path, **{setting: value})


def test_settings_of_draws_do_not_count_where_nothing_is_drawn(tmp_path: Path) -> None:
    assert read(tmp_path, do_sample=False, temperature=0.2, top_k=3, typical_p=0.4, min_p=0.1) == GREEDY
    with pytest.raises(CheckpointError, match=r"min_p: expected 0, found 0\.1"):
        read(tmp_path, do_sample=True, min_p=0.1)


def test_what_changes_nothing_is_passed_over(tmp_path: Path) -> None:
    neutral = {
        "num_beams": 1,
        "typical_p": 1.0,
        "max_length": 4096,
        "use_cache": True,
        "forced_bos_token_id": 3,
    }
    assert read(tmp_path, **neutral, transformers_version="4.36.0", bad_words_ids=None) == GREEDY


def test_a_checkpoint_without_the_file_has_them_in_its_configuration(tmp_path: Path) -> None:
    assert read(tmp_path, "config.json", repetition_penalty=1.2).repetition_penalty == 1.2


def test_what_is_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected token ids below 200, found \[200, 300\]"):
        read(tmp_path, bad_words_ids=[[1, 300]], suppress_tokens=[200])
    with pytest.raises(
        CheckpointError, match=r"generation_config.json: choice: expected .* repetition_penalty"
    ):
        read(tmp_path, repetition_penalty=-1.0)


@pytest.mark.parametrize(("name", "is_video"), [("image_token_index", False), ("video_token_id", True)])
def test_the_token_of_a_picture_is_where_transformers_has_it(
    tmp_path: Path, name: str, *, is_video: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({name: 7}))
    assert picture_id(CheckpointFolder(tmp_path), is_video=is_video) == 7
    with pytest.raises(CheckpointError, match="does not say which stands for a picture"):
        picture_id(CheckpointFolder(tmp_path), is_video=not is_video)
