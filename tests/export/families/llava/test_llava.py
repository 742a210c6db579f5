"""LLaVA-1.5 against transformers' own class, from the files that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import generate
from saccade.export.families.llava.llava import Llava, build, key_rules, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from tests.export.families.published import CLIP_PROCESSOR, normalised, pictures, randomise, save

IMAGE_ID, BEFORE, TEXT = 90, (1, 7, 8), 16
PROCESSOR = {
    **CLIP_PROCESSOR,
    "do_resize": True,
    "size": {"shortest_edge": 20},
    "do_center_crop": True,
    "crop_size": {"height": 20, "width": 20},
    "resample": 3,
    "rescale_factor": 1 / 255,
}
DEPLOYMENT = Deployment(before=BEFORE, max_text_tokens=TEXT)


def reference(*, tied: bool = False, kv_heads: int = 2) -> Any:
    """A tiny model of the real class; heads do not add up to the width."""
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=20,
            patch_size=5,
        ),
        text_config=transformers.LlamaConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            head_dim=8,
            vocab_size=96,
            rms_norm_eps=1e-5,
            tie_word_embeddings=tied,
        ),
        image_token_index=IMAGE_ID,
        image_seq_length=16,
        tie_word_embeddings=tied,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    randomise(model)
    model.tie_weights()
    return model.eval()


def ours(folder: Path) -> Llava:
    config = read_config(CheckpointFolder(folder), DEPLOYMENT)
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    return model.eval()


@pytest.mark.parametrize(("tied", "kv_heads"), [(False, 2), (True, 4)])
def test_logits_and_generated_ids_equal_the_reference(tmp_path: Path, *, tied: bool, kv_heads: int) -> None:
    theirs = reference(tied=tied, kv_heads=kv_heads)
    model = ours(save(theirs, tmp_path / "llava", PROCESSOR))
    for seed, question in enumerate(([11, 12, 13], [50], [3, 4, 5, 6, 7, 8, 9])):
        image = pictures(1, 20, 20, seed)
        ids = torch.tensor([[*BEFORE, *[IMAGE_ID] * 16, *question]])
        pixels = normalised(image, PROCESSOR)
        padded = torch.tensor([[*question, *[0] * (TEXT - len(question))]])
        lengths = torch.tensor([len(question)])
        with torch.no_grad():
            expected = theirs(input_ids=ids, pixel_values=pixels, output_hidden_states=True)
            visual = model.embed_visual(model.visual_tokens(torch.from_numpy(image)[None]))
            states = model.run(model.embed(visual, padded), model.sequence_inputs(lengths))
            valid = states[:, : ids.shape[1]]
            torch.testing.assert_close(valid, expected.hidden_states[-1], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(model.logits(valid), expected.logits, atol=1e-4, rtol=1e-4)
            generated = theirs.generate(
                input_ids=ids,
                pixel_values=pixels,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=6,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
            assert (
                generate(model, visual, padded, lengths, 6).tolist() == generated[:, ids.shape[1] :].tolist()
            )
