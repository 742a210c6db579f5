"""What Qwen2.5-VL and Qwen3-VL share: their towers' configuration, positions in three axes, and the model around both.

[fixed: what precedes, vision marks, timestamps] [visual: merged patches] [question, padded on its right]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import GeneratingModel, SequenceInputs
from saccade.export.families.prompt_frame import VISUAL_TOKEN, Item, PromptFrame, frame_prompt, grid_items
from saccade.export.loading.image_processor import NAMES, ImageProcessor, read_image_processor
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules, Renames
from saccade.export.loading.text_decoder import TextModel, read_text_model
from saccade.export.models.qwen_patches import QwenVisionConfig
from saccade.export.models.qwen_vision import PatchMerger, QwenVisionTower, TowerFeatures
from saccade.export.models.vision_transformer import VisionTransformer
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError, ExportError

MARKS: Mapping[str, object] = {"vision_start_token_id": 151652, "vision_end_token_id": 151653}
"""Tokens around every picture; the defaults of both configuration classes."""
PIXELS: Mapping[str, object] = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
"""Pixels of a picture, at least and at most: the defaults of the image processor's class."""
_VIDEO_NAMES = ("video_preprocessor_config.json", *NAMES)
_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
_CHANNELS = 3


class VisualRun(NamedTuple):
    """Visual tokens that stand between two vision marks.

    Args:
        before: Token ids of the text before the first mark.
        times: Positions on the time axis, one for each clip; the same in all runs of a prompt.
    """

    before: tuple[int, ...]
    times: tuple[int, ...]


@dataclass(frozen=True)
class QwenVlConfig:
    """Everything that shapes weights and graph.

    Args:
        tower: For the size that pictures are resized to, ``tower.picture_size``.
        text: The language model.
        views: Pictures, or videos, of one question.
        times: Of a :class:`VisualRun`.
        frame: The prompt.
    """

    tower: QwenVisionConfig
    text: TextModel
    views: int
    times: tuple[int, ...]
    frame: PromptFrame

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures, or the clips of the videos."""
        return Grid(self.views * self.tower.clips, self.tower.token_rows, self.tower.token_columns)

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Time, row and column of each token of the sequence in memory, see :func:`prompt_positions`."""
        places = prompt_positions(self.frame, self.times, self.tower.token_rows, self.tower.token_columns)
        return tuple(zip(*(places[place] for place in self.frame.order), strict=True))


def prompt_positions(
    frame: PromptFrame, times: Sequence[int], rows: int, columns: int
) -> list[tuple[int, int, int]]:
    """Return time, row and column of each token of a prompt and of the text that follows, as they stand.

    Text counts on along all axes; a run of visual tokens begins where text would go on, and text goes on one behind the
    farthest of its positions on any axis.

    Args:
        frame: The prompt.
        times: Of the clips in a run of visual tokens, from 0.
        rows: Of visual tokens in a clip.
        columns: The same.

    Source:
        Qwen2.5-VL's ``get_rope_index`` as it was published with the model. Deviation: transformers 5 looks at rows and
        columns only, which lets text begin inside a video that lasts longer than it is wide; up to that it agrees.
    """
    patches = [(time, row, column) for time in times for row in range(rows) for column in range(columns)]
    places: list[tuple[int, int, int]] = []
    start = 0
    while len(places) < len(frame.items):
        run = patches if frame.items[len(places)] == VISUAL_TOKEN else [(0, 0, 0)]
        places += [(start + time, start + row, start + column) for time, row, column in run]
        start += 1 + max(map(max, run))
    return places + [(place,) * 3 for place in range(start, start + frame.max_text_tokens)]


def read_processor(folder: Path, deployment: Deployment) -> ImageProcessor:
    """Read how pictures, or the frames of a video, are prepared.

    Raises:
        CheckpointError: It is missing, or asks for what is not known here.
    """
    if deployment.frames:
        processor = read_image_processor(folder, _VIDEO_NAMES, "video_processor")
    else:
        processor = read_image_processor(folder)
    if len(processor.mean) != _CHANNELS or len(processor.std) != _CHANNELS:
        raise CheckpointError(
            f"expected image mean and std of three channels, found {processor.mean} and {processor.std}."
        )
    for name, accepted in (
        ("do_resize", (True,)),
        ("rescale_factor", (1 / 255,)),
        ("cap_pixels_per_frame", (False,)),
    ):
        processor.fields.expect(name, accepted)
    return processor


def pixel_budget(processor: ImageProcessor, defaults: Mapping[str, object]) -> dict[str, int]:
    """Return the fewest and the most pixels after resizing; older files have names of their own for them."""
    size = processor.fields.child("size", defaults)
    return {
        ours: processor.fields.take(old, int) if processor.fields.has(old) else size.take(new, int)
        for ours, old, new in (
            ("least", "min_pixels", "shortest_edge"),
            ("most", "max_pixels", "longest_edge"),
        )
    }


def picture_size(deployment: Deployment) -> tuple[int, int]:
    """Return height and width of the pictures as they come.

    Raises:
        ExportError: The deployment leaves them open.
    """
    if deployment.image_size is None:
        raise ExportError(
            "expected image_size in the deployment, found none: this family takes pictures of any size, but a graph "
            "has one; give the camera's height and width."
        )
    return deployment.image_size


def token_side(fields: JsonFields, processor: ImageProcessor) -> int:
    """Return the side of a visual token, pixels.

    Raises:
        CheckpointError: Tower and image processor cut pictures differently.
    """
    patch, merge = fields.take("patch_size", int), fields.take("spatial_merge_size", int)
    for name, accepted in (
        ("patch_size", patch),
        ("merge_size", merge),
        ("temporal_patch_size", fields.take("temporal_patch_size", int)),
    ):
        processor.fields.expect(name, (accepted,))
    return patch * merge


def read_tower(
    fields: JsonFields,
    processor: ImageProcessor,
    deployment: Deployment,
    size: tuple[int, int],
    **switches: Any,
) -> QwenVisionConfig:
    """Read a tower's configuration.

    Args:
        fields: The object ``vision_config``.
        processor: Of its pictures.
        deployment: How it will be used.
        size: Height and width of the pictures after resizing.
        switches: Of the family.

    Raises:
        CheckpointError: A field is of the wrong kind, or asks for what is not known here.
    """
    for name in ("in_channels", "in_chans"):
        fields.expect(name, (_CHANNELS,))
    kind = fields.take("hidden_act", str)
    if kind not in _ACTIVATIONS:
        raise CheckpointError(f"hidden_act: expected one of {', '.join(_ACTIVATIONS)}, found {kind!r}.")
    width, heads = fields.take("hidden_size", int), fields.take("num_heads", int)
    if width % (4 * heads):
        raise CheckpointError(
            f"vision_config: hidden_size: expected a multiple of 4 times num_heads = {heads}, found {width}."
        )
    rope = fields.child("rope_parameters", {"rope_theta": 1e4})
    rope.expect("rope_type", ("axial",))
    patch = fields.take("patch_size", int)
    return QwenVisionConfig(
        rows=size[0] // patch,
        columns=size[1] // patch,
        frames=deployment.frames,
        patch_size=patch,
        patch_frames=fields.take("temporal_patch_size", int),
        merge_size=fields.take("spatial_merge_size", int),
        width=width,
        depth=fields.take("depth", int),
        heads=heads,
        mlp_dim=fields.take("intermediate_size", int),
        out_width=fields.take("out_hidden_size", int),
        activation=_ACTIVATIONS[kind],
        rope_theta=rope.take("rope_theta", float),
        pixel_mean=processor.mean,
        pixel_std=processor.std,
        **switches,
    )


def position_side(fields: JsonFields) -> int:
    """Return the side of the learned position table.

    Raises:
        CheckpointError: It is no square.
    """
    places = fields.take("num_position_embeddings", int)
    if isqrt(places) ** 2 != places:
        raise CheckpointError(f"num_position_embeddings: expected a square number, found {places}.")
    return isqrt(places)


def read_text(
    fields: JsonFields, model_type: str, *, sections: tuple[int, ...], interleaved: bool
) -> TextModel:
    """Read the language model with positions in three axes.

    Args:
        fields: Of the text model.
        model_type: As in :func:`read_text_model`.
        sections: What the class assumes where the file names no sections.
        interleaved: How the family's axes share the frequencies.

    Raises:
        CheckpointError: As :func:`read_text_model`; or sections do not fit.
    """
    text = read_text_model(fields, model_type)
    name = "rope_parameters" if fields.has("rope_parameters") else "rope_scaling"
    rope = fields.child(name, {"mrope_section": sections})
    rope.expect("mrope_interleaved", (interleaved,))
    found, half = rope.items("mrope_section", int), text.decoder.head_dim // 2
    if len(found) != 3 or sum(found) != half:
        raise CheckpointError(
            f"{name}: mrope_section: expected three numbers that add up to {half}, half of a head's channels, found "
            f"{list(found)}."
        )
    return replace(text, decoder=replace(text.decoder, rope_sections=found, rope_interleaved=interleaved))


def assemble(
    fields: JsonFields,
    tower: QwenVisionConfig,
    text: TextModel,
    deployment: Deployment,
    runs: Sequence[VisualRun],
) -> QwenVlConfig:
    """Put a configuration together.

    Args:
        fields: Of ``config.json``.
        tower: Its tower.
        text: Its language model.
        deployment: How it will be used.
        runs: Of one picture or video.

    Raises:
        CheckpointError: The parts do not fit.
    """
    if tower.out_width != text.decoder.width:
        raise CheckpointError(
            f"vision_config: out_hidden_size: expected {text.decoder.width} as the language model's hidden_size, found "
            f"{tower.out_width}."
        )
    begin, end = (fields.take(name, int) for name in MARKS)
    picture: list[Item] = []
    for run in runs:
        visual = grid_items(len(run.times) * tower.token_rows, tower.token_columns, newline=False)
        picture += [*run.before, begin, *visual, end]
    prompt = frame_prompt(deployment.before, [picture] * deployment.views, deployment.between)
    frame = PromptFrame(prompt, deployment.max_text_tokens)
    tokens = sum(frame.segments.values())
    if text.most_tokens is not None and tokens > text.most_tokens:
        raise CheckpointError(
            f"sliding_window: expected room for the {tokens} tokens of this deployment, found {text.most_tokens}; use "
            "fewer pictures, smaller ones, or a checkpoint without a window."
        )
    tied = text.is_tied or fields.take("tie_word_embeddings", bool)
    return QwenVlConfig(tower, replace(text, is_tied=tied), deployment.views, runs[0].times, frame)


def qwen_key_rules(config: QwenVlConfig, mergers: Renames) -> KeyRules:
    """Return how stored weights come to our names, as the Hub has them and as transformers writes them.

    Args:
        config: The model's.
        mergers: What brings the mergers to our names, from ``vision.``.
    """
    return KeyRules(
        rename=(
            (r"^(?:model\.)?visual\.", "vision."),
            *mergers,
            (r"^(?:model\.)?language_model\.(?:model\.)?(?!lm_head)", "decoder."),
            (r"^language_model\.lm_head\.", "lm_head."),
            (r"^model\.", "decoder."),
        ),
        ties={"lm_head.weight": "decoder.embed_tokens.weight"} if config.text.is_tied else {},
    )


class QwenVl(GeneratingModel):
    """Tower, merger and decoder.

    Args:
        config: The family's.
    """

    def __init__(self, config: QwenVlConfig) -> None:
        super().__init__(config.text.decoder, config.frame)
        self.config = config
        self.positions = config.positions
        self.vision = QwenVisionTower(config.tower)
        self.projector = PatchMerger(config.tower, config.tower.width)

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The one tower; it is run like a ``VisionTransformer``, block by block."""
        return cast("tuple[VisionTransformer, ...]", (self.vision,))

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures, or the clips of the videos."""
        return self.config.grid

    @property
    def keeps_patches(self) -> bool:
        """No: a visual token is a square of patches."""
        return False

    @property
    def first_position(self) -> int:
        """Rotary position of the first token of the question, on every axis."""
        return self.positions[0][self.layout.span("text").start]

    def features(self, images: Tensor) -> TowerFeatures:
        """Run the tower.

        Args:
            images: uint8 ``(batch, pictures, height, width, 3)``, RGB, resized; pictures are views, or the frames of
                all videos.

        Returns:
            ``(batch, visual, token_width)`` each.
        """
        last, deep = self.vision(images.float().flatten(0, 1))
        shape = (images.shape[0], -1, self.config.tower.token_width)
        return TowerFeatures(last.reshape(shape), tuple(x.reshape(shape) for x in deep))

    def visual_tokens(self, images: Tensor) -> Tensor:
        """Return the last features alone; arguments as :meth:`features`."""
        return self.features(images).last

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """``(batch, alive, token_width)`` -> ``(batch, alive, width)``."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded

    def sequence_inputs(self, text_lengths: Tensor) -> SequenceInputs:
        """Return mask, positions ``(batch, 3, tokens)`` and order for texts of int64 ``(batch,)`` valid tokens."""
        inputs = super().sequence_inputs(text_lengths)
        positions = torch.tensor(self.positions, device=text_lengths.device)
        return inputs._replace(positions=positions * inputs.mask.unsqueeze(1))
