"""Qwen3-VL: a tower whose inner features go into the first decoder layers too, and Qwen3 with three-axis positions.

    [what precedes, vision marks, timestamps] [visual: merged patches] [question, padded on its right]

With frames each view is a video: two frames make a clip, which stands between vision marks of its own behind its time
in words. *Deep stack*: features of some tower blocks, each through a merger of its own, are added to the visual tokens
that the first decoder layers give, one layer for each.

Source:
    Qwen3-VL (2511.21631) as in transformers' ``Qwen3VLForConditionalGeneration``, 5.23. Fixed here: the number of
    pictures, their size, and the prompt frame; pictures come resized to ``tower.picture_size``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import SequenceInputs
from saccade.export.families.qwen_vl import (
    MARKS,
    PIXELS,
    QwenVl,
    QwenVlConfig,
    VisualRun,
    assemble,
    picture_size,
    pixel_budget,
    position_side,
    qwen_key_rules,
    read_processor,
    read_text,
    read_tower,
    token_side,
)
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.smart_resize import smart_resize, smart_resize_video
from saccade.export.loading.text_decoder import text_fields
from saccade.export.models.qwen_vision import PatchMerger
from saccade.proto.errors import CheckpointError, ExportError

MODEL_TYPE = "qwen3_vl"
_TEXT = "qwen3_vl_text"
_SECTIONS = (24, 20, 20)
_DEFAULTS = {**MARKS, "tie_word_embeddings": False}
"""What ``Qwen3VLConfig`` assumes."""
_TOWER = {
    "depth": 27,
    "hidden_size": 1152,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 4304,
    "num_heads": 16,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": (8, 16, 24),
}
"""What ``Qwen3VLVisionConfig`` assumes."""
_VIDEO_PIXELS = {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768}
"""Pixels of a whole video, at least and at most: the defaults of the video processor's class."""
_TOKENIZER = "tokenizer.json"


def read_config(folder: Path, deployment: Deployment) -> QwenVlConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: Of the checkpoint.
        deployment: How it will be used; with frames each view is a video of so many.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment leaves the size of pictures open, they are too elongated, or too few for a video.
    """
    fields = JsonFields(read_object(folder, "config.json"), "config.json", _DEFAULTS)
    fields.expect("model_type", (MODEL_TYPE,))
    vision = fields.child("vision_config", _TOWER)
    processor = read_processor(folder, deployment)
    side, patch_frames = token_side(vision, processor), vision.take("temporal_patch_size", int)
    budget = pixel_budget(processor, _VIDEO_PIXELS if deployment.frames else PIXELS)
    came = picture_size(deployment)
    if deployment.frames:
        size = smart_resize_video(deployment.frames, *came, patch_frames=patch_frames, factor=side, **budget)
        runs = [VisualRun(stamp, (0,)) for stamp in timestamps(folder, deployment, patch_frames)]
    else:
        size, runs = smart_resize(*came, factor=side, **budget), [VisualRun((), (0,))]
    text = read_text(text_fields(fields, "text_config", _TEXT), _TEXT, sections=_SECTIONS, interleaved=True)
    tower = read_tower(
        vision,
        processor,
        deployment,
        size,
        gated=False,
        position_side=position_side(vision),
        deep_blocks=_deep_blocks(vision, text.decoder.layers),
    )
    return assemble(fields, tower, text, deployment, runs)


def timestamps(folder: Path, deployment: Deployment, patch_frames: int) -> list[tuple[int, ...]]:
    """Return what precedes each clip of a video: its mean time in words, as token ids.

    Args:
        folder: Of the checkpoint; its tokenizer is asked.
        deployment: Frames, and how many a second.
        patch_frames: Of a clip; one at the end that is not full is filled up with its last frame.

    Raises:
        CheckpointError: There is no tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    except Exception as error:
        raise CheckpointError(
            f"{_TOKENIZER}: expected a tokenizer file in {folder.name}/, for the times of frames, found: {error}; "
            "copy it from the published checkpoint."
        ) from error
    times = [frame / deployment.frames_per_second for frame in range(deployment.frames)]
    means = (
        (times[first] + times[min(first + patch_frames, len(times)) - 1]) / 2
        for first in range(0, len(times), patch_frames)
    )
    return [tuple(tokenizer.encode(f"<{mean:.1f} seconds>", add_special_tokens=False).ids) for mean in means]


def key_rules(config: QwenVlConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return qwen_key_rules(
        config,
        (
            (r"^vision\.merger\.", "projector."),
            (r"^vision\.deepstack_merger_list\.", "deep_projectors."),
            (r"^((?:deep_)?projectors?\..*)linear_fc([12])\.", r"\1fc\2."),
        ),
    )


class Qwen3Vl(QwenVl):
    """The model."""

    def __init__(self, config: QwenVlConfig) -> None:
        super().__init__(config)
        tower = config.tower
        self.deep_projectors = nn.ModuleList(PatchMerger(tower, tower.token_width) for _ in tower.deep_blocks)

    def embed_deep(self, deep: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return what the first decoder layers are given beside: features of tower blocks through their mergers.

        Args:
            deep: ``TowerFeatures.deep``, all visual tokens or those alive: ``(batch, alive, token_width)`` each.

        Returns:
            ``(batch, alive, width)`` each: the first for the output of decoder layer 0.
        """
        return tuple(merge(x) for merge, x in zip(self.deep_projectors, deep, strict=True))

    def add_deep(self, hidden: Tensor, addition: Tensor) -> Tensor:
        """Add ``(batch, alive, width)`` to the visual tokens of ``(batch, tokens, width)``, all of which are alive."""
        layout = self.layout.with_visual(addition.shape[1])
        return layout.replace_visual(hidden, layout.take(hidden, "visual") + addition)

    def run(self, embeddings: Tensor, inputs: SequenceInputs, deep: Sequence[Tensor] = ()) -> Tensor:
        """Run the whole decoder.

        Args:
            embeddings: ``(batch, tokens, width)``.
            inputs: Of the same tokens.
            deep: From :meth:`embed_deep`, of the visual tokens that ``embeddings`` has.

        Returns:
            Final states, ``(batch, tokens, width)``.

        Raises:
            ExportError: ``deep`` is not complete.
        """
        if len(deep) != len(self.deep_projectors):
            raise ExportError(
                f"expected features of {len(self.deep_projectors)} tower blocks, found {len(deep)}; pass what "
                "embed_deep gives."
            )
        decoder = self.decoder
        rotary = decoder.rotary(inputs.positions)
        bias = decoder.attention_bias(inputs.mask, inputs.order, inputs.order)
        hidden = embeddings
        for index, layer in enumerate(decoder.layers):
            hidden = layer(hidden, rotary, bias).hidden
            if index < len(deep):
                hidden = self.add_deep(hidden, deep[index])
        final: Tensor = decoder.norm(hidden)
        return final


def build(config: QwenVlConfig) -> Qwen3Vl:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return Qwen3Vl(config)


def _deep_blocks(fields: JsonFields, layers: int) -> tuple[int, ...]:
    blocks, depth = fields.items("deepstack_visual_indexes", int), fields.take("depth", int)
    if list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(depth)) or len(blocks) > layers:
        raise CheckpointError(
            f"deepstack_visual_indexes: expected blocks out of 0..{depth - 1}, ascending, at most one for each of "
            f"{layers} decoder layers, found {list(blocks)}."
        )
    return blocks
