"""Compares LLaVA-NeXT and LLaVA-OneVision with transformers' own classes on one observation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.export.families.generating import generate
from saccade.export.families.llava.tiled import TiledConfig, TiledLlava
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.lint import lint
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import ViewSpec


def prepared(
    family: ModuleType, config: TiledConfig, pictures: Iterable[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """What the host makes of the pictures of one observation: uint8 ``(tiles, height, width, 3)``."""
    view, fit = ViewSpec("image0", *family.picture_size(config)), family.picture_fit(config)
    return np.concatenate([fit_picture(picture, view, fit) for picture in pictures])


BEFORE, BETWEEN, TEXT = (1, 7, 8), (9, 5), 16


def placeholders(model: TiledLlava, token: int) -> list[int]:
    """The prompt up to the question as the reference's processor writes it: ``token`` for all that an image gives."""
    return [item if item >= 0 else token for item in model.prompt_layout.items]


def run(model: TiledLlava, tiles: NDArray[np.uint8], questions: Sequence[Sequence[int]]) -> list[Tensor]:
    """Final states of each robot's valid tokens in the prompt's order, all robots in one batch."""
    padded = torch.tensor([[*question, *[0] * (TEXT - len(question))] for question in questions])
    lengths = torch.tensor([len(question) for question in questions])
    visual = model.embed_visual(model.visual_tokens(torch.from_numpy(tiles)))
    states = model.run(model.embed(visual, padded), model.sequence_inputs(lengths))
    standing = states[:, torch.tensor(model.prompt_layout.order).argsort()]
    ends = [len(model.prompt_layout.items) + len(question) for question in questions]
    return [state[:end] for state, end in zip(standing, ends, strict=True)]


def assert_same_answer(
    theirs: Any, model: TiledLlava, tiles: NDArray[np.uint8], inputs: dict[str, Any]
) -> None:
    """Final states, logits and six generated ids are the reference's.

    Args:
        theirs: The reference.
        model: Ours.
        tiles: What the host gives, uint8 ``(tiles, height, width, 3)``.
        inputs: Of the reference: ``input_ids`` and pixels.
    """
    ids = inputs["input_ids"]
    question = ids[0, len(model.prompt_layout.items) :].tolist()
    padded = torch.tensor([[*question, *[0] * (TEXT - len(question))]])
    with torch.no_grad():
        expected = theirs(**inputs, output_hidden_states=True)
        (states,) = run(model, tiles[None], [question])
        torch.testing.assert_close(states, expected.hidden_states[-1][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.logits(states), expected.logits[0], atol=1e-4, rtol=1e-4)
        generated = theirs.generate(
            **inputs,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        visual = model.embed_visual(model.visual_tokens(torch.from_numpy(tiles)[None]))
        found = generate(model, visual, padded, torch.tensor([len(question)]), 6)
    assert found.tolist() == generated[:, ids.shape[1] :].tolist()


class _Entry(nn.Module):
    """Pictures and question to what the decoder takes."""

    def __init__(self, model: TiledLlava) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, token_ids: Tensor) -> Tensor:
        return self.model.embed(self.model.embed_visual(self.model.visual_tokens(images)), token_ids)


def assert_exports(model: TiledLlava, tiles: NDArray[np.uint8]) -> None:
    """The graph of what the family adds has portable operators only and gives what torch gives, for two robots."""
    images = torch.from_numpy(np.stack([tiles, tiles[::-1]]))
    example = (images, torch.arange(2 * TEXT).reshape(2, TEXT))
    entry = _Entry(model)
    graph = to_graph(entry, example, GraphPorts(("images", "token_ids"), ("embeddings",)), "entry")
    lint(graph, "entry")
    session = onnxruntime.InferenceSession(
        ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = {"images": images.numpy(), "token_ids": example[1].numpy()}
    (embeddings,) = session.run(None, given)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(embeddings), entry(*example), atol=1e-5, rtol=1e-5)
