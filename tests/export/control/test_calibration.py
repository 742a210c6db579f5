"""Shares and head outputs equal sums over the full attention map, written out."""

from __future__ import annotations

import numpy as np
import torch

from saccade.export.control.calibration import measure
from tests.export.samples import CONFIG, observation, tiny_model


def test_shares_and_head_outputs_equal_the_full_map() -> None:
    model = tiny_model()
    frames = [observation(model, seed=seed, length=4) for seed in range(2)]
    found = measure(model, frames)
    assert len(found.text_to_visual) == 2 and len(found.head_outputs) == CONFIG.decoder.layers
    images, proprio, ids, mask, positions = frames[1]
    hidden = model.embed_observation(images, proprio, ids)
    valid = mask[0].numpy()
    text, visual = np.arange(10, 14), np.arange(1, 9)  # bos, 8 visual, proprio, 4 valid of 6 text
    action = [13, 16, 17, 18, 19, 20]  # the last prompt token, then every placeholder but the last
    magnitudes = []
    for index, layer in enumerate(model.decoder.layers):
        rotary, bias = model.decoder.rotary(positions), model.decoder.attention_bias(mask)
        output = layer(hidden, rotary, bias)
        query, key = (x[0].double().numpy() for x in (output.attention.query, output.attention.key))
        logits = np.einsum("hqd,hkd->hqk", query, key) / np.sqrt(query.shape[-1])
        logits[:, :, ~valid] = -np.inf
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = (weights / weights.sum(-1, keepdims=True)).mean(0)
        for rows, columns, share in (
            (text, visual, found.text_to_visual),
            (visual, text, found.visual_to_text),
            (action, visual, found.action_to_visual),
        ):
            expected = weights[np.ix_(rows, columns)].sum() / weights[rows].sum()
            np.testing.assert_allclose(share[1][index], expected, rtol=1e-4)
        magnitudes.append(output.attention.heads[0].abs().detach().numpy()[:, valid].mean(axis=(1, 2)))
        hidden = output.hidden
    other = measure(model, frames[:1])
    both = 0.5 * (np.array(other.head_outputs) + np.stack(magnitudes))
    np.testing.assert_allclose(np.array(found.head_outputs), both, rtol=1e-4)


def test_padding_counts_for_nothing() -> None:
    model = tiny_model()
    images, proprio, ids, mask, positions = observation(model, length=3)
    changed = ids.clone()
    changed[:, 3:] = 5
    one, other = (measure(model, [(images, proprio, tokens, mask, positions)]) for tokens in (ids, changed))
    for name in ("text_to_visual", "visual_to_text", "action_to_visual", "head_outputs"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5)
    assert torch.tensor(one.text_to_visual).gt(0).all()
