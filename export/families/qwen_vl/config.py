"""Reading what Qwen2.5-VL and Qwen3-VL share of a checkpoint: processor, tower, language model, prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from saccade.export.families.deployment import Deployment
from saccade.export.families.prompt_layout import Item, PromptLayout, grid_items, lay_out_prompt
from saccade.export.families.qwen_vl.model import QwenVlConfig, VisualRun
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import NAMES, ImageProcessor, read_image_processor
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.text_decoder import TextModel, read_text_model
from saccade.export.models.qwen_patches import QwenVisionConfig
from saccade.proto.errors import CheckpointError, ExportError
from saccade.proto.picture_fit import Resample

MARKS: Mapping[str, object] = {"vision_start_token_id": 151652, "vision_end_token_id": 151653}
"""Tokens around every picture; the defaults of both configuration classes."""
PIXELS: Mapping[str, object] = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
"""Pixels of a picture, at least and at most: the defaults of the image processor's class."""
_VIDEO_NAMES = ("video_preprocessor_config.json", *NAMES)
_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class QwenFiles:
    """A checkpoint's files, opened.

    Args:
        deployment: How the model will be used.
        fields: Fields of ``config.json``.
        vision: Fields of the object ``vision_config`` in ``config.json``.
        processor: Image processor, or the video processor where there are frames.
        camera: Height and width of the pictures as they come, pixels.
        side: Side of a visual token, pixels.
        budget: The fewest and the most pixels after resizing, by :func:`smart_resize`'s names ``least`` and ``most``.
    """

    deployment: Deployment
    fields: JsonFields
    vision: JsonFields
    processor: ImageProcessor
    camera: tuple[int, int]
    side: int
    budget: Mapping[str, int]


def open_files(
    folder: CheckpointFolder,
    deployment: Deployment,
    *,
    model_type: str,
    defaults: Mapping[str, object],
    tower: Mapping[str, object],
    video_pixels: Mapping[str, object],
) -> QwenFiles:
    """Open a checkpoint's files.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used.
        model_type: The ``model_type`` that ``config.json`` must name.
        defaults: What the family's configuration class assumes where a field is missing.
        tower: What the family's vision configuration assumes where a field is missing.
        video_pixels: Fewest and most pixels that the family's video processor assumes where the file names none.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment leaves the size of pictures open.
    """
    fields = folder.fields("config.json", defaults)
    fields.expect("model_type", (model_type,))
    vision = fields.child("vision_config", tower)
    processor = _read_processor(folder, deployment)
    return QwenFiles(
        deployment=deployment,
        fields=fields,
        vision=vision,
        processor=processor,
        camera=_camera(deployment),
        side=_token_side(vision, processor),
        budget=_pixel_budget(processor, video_pixels if deployment.frames else PIXELS),
    )


def position_side(fields: JsonFields) -> int:
    """Return the side of the learned position table of a vision tower.

    Raises:
        CheckpointError: The number of places is no square.
    """
    places = fields.take("num_position_embeddings", int)
    if isqrt(places) ** 2 != places:
        raise CheckpointError(f"num_position_embeddings: expected a square number, found {places}.")
    return isqrt(places)


def read_tower(
    files: QwenFiles,
    size: tuple[int, int],
    **switches: Any,
) -> QwenVisionConfig:
    """Read a tower's configuration.

    Args:
        files: The checkpoint's files, opened.
        size: Height and width of the pictures after resizing, pixels.
        switches: Fields of :class:`QwenVisionConfig` that the family sets.

    Raises:
        CheckpointError: A field is of the wrong kind, or asks for what is not known here.
    """
    fields, processor = files.vision, files.processor
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
        frames=files.deployment.frames,
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


def read_text(
    fields: JsonFields, model_type: str, *, sections: tuple[int, ...], interleaved: bool
) -> TextModel:
    """Read the language model with positions in three axes.

    Args:
        fields: Configuration of the text model.
        model_type: Key of ``TEXT_MODELS``.
        sections: Frequencies of time, row and column that the family assumes where the file names none.
        interleaved: The family's axes take turns over the frequencies, instead of one run for each.

    Raises:
        CheckpointError: A field is of the wrong kind, a setting would change the model and is not known here, or the
            sections do not fit.
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
    files: QwenFiles,
    tower: QwenVisionConfig,
    text: TextModel,
    runs: Sequence[VisualRun],
) -> QwenVlConfig:
    """Put a configuration together.

    Args:
        files: The checkpoint's files, opened.
        tower: Configuration of the vision tower.
        text: Configuration of the language model.
        runs: Runs of visual tokens of one picture or video, in order.

    Raises:
        CheckpointError: Tower and language model differ in width, or the prompt is longer than the window of attention.
    """
    fields, deployment = files.fields, files.deployment
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
    prompt = lay_out_prompt(deployment.before, [picture] * deployment.views, deployment.between)
    laid_out = PromptLayout(prompt, deployment.max_text_tokens)
    tokens = sum(laid_out.segments.values())
    if text.most_tokens is not None and tokens > text.most_tokens:
        raise CheckpointError(
            f"sliding_window: expected room for the {tokens} tokens of this deployment, found {text.most_tokens}; use "
            "fewer pictures, smaller ones, or a checkpoint without a window."
        )
    tied = text.is_tied or fields.take("tie_word_embeddings", bool)
    return QwenVlConfig(
        tower=tower,
        text=replace(text, is_tied=tied),
        views=deployment.views,
        times=runs[0].times,
        prompt_layout=laid_out,
        camera=files.camera,
        resample=files.processor.resample(Resample.BICUBIC),
        frames_per_second=deployment.frames_per_second,
    )


def _read_processor(folder: CheckpointFolder, deployment: Deployment) -> ImageProcessor:
    """Read how pictures, or the frames of a video, are prepared.

    Raises:
        CheckpointError: The processor's file is missing, or asks for what is not known here.
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


def _pixel_budget(processor: ImageProcessor, defaults: Mapping[str, object]) -> dict[str, int]:
    """Return the fewest and the most pixels after resizing; older files have names of their own for them.

    Raises:
        CheckpointError: A size is given, and not as the two.
    """
    size = processor.fields.child("size", {} if processor.fields.has("size") else defaults)
    return {
        ours: processor.fields.take(old, int) if processor.fields.has(old) else size.take(new, int)
        for ours, old, new in (
            ("least", "min_pixels", "shortest_edge"),
            ("most", "max_pixels", "longest_edge"),
        )
    }


def _camera(deployment: Deployment) -> tuple[int, int]:
    """Return height and width of the pictures as they come, pixels.

    Raises:
        ExportError: The deployment leaves the size of pictures open.
    """
    if deployment.image_size is None:
        raise ExportError(
            "expected the size of the pictures, found none: this family takes pictures of any size, but a graph has "
            "one; give the camera's, such as --image-size 640x480 (width x height)."
        )
    return deployment.image_size


def _token_side(fields: JsonFields, processor: ImageProcessor) -> int:
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
