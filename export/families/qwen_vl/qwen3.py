"""Qwen3-VL: a tower whose inner features go into the first decoder layers too, and Qwen3 with three-axis positions.

    [what precedes, vision marks, timestamps] [visual: merged patches] [question, padded on its right]

With frames each view is a video: two frames make a clip, which stands between vision marks of its own behind its time
in words. *Deep stack*: features of some tower blocks, each through a merger of its own, are added to the visual tokens
that the first decoder layers give, one layer for each.

Source:
    Qwen3-VL (2511.21631) as in transformers' ``Qwen3VLForConditionalGeneration``, 5.23. Fixed here: the number of
    pictures, their size, and the layout of the prompt; pictures come resized to ``tower.picture_size``. Deviation: the
    processor of transformers 5.12 to 5.23 leaves one more pair of marks around a whole video, which that of 4.57, with
    which the model came, replaced by those of its clips; we do as 4.57.
"""

from __future__ import annotations

from saccade.export.families.deployment import Deployment
from saccade.export.families.qwen_vl.config import (
    MARKS,
    assemble,
    open_files,
    position_side,
    read_text,
    read_tower,
)
from saccade.export.families.qwen_vl.model import (
    PLACEHOLDERS,
    QwenVlConfig,
    VisualRun,
    build,
    chat_prompt,
    picture_fit,
    picture_size,
    qwen_key_rules,
    video_spec,
)
from saccade.export.families.reader import AnsweringReader
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.smart_resize import smart_resize, smart_resize_video
from saccade.export.loading.text_decoder import text_fields
from saccade.proto.errors import CheckpointError

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


def read_config(folder: CheckpointFolder, deployment: Deployment) -> QwenVlConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; with frames each view is a video of so many.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment leaves the size of pictures open, the pictures are too elongated, or too few for a
            video.
    """
    files = open_files(
        folder,
        deployment,
        model_type=MODEL_TYPE,
        defaults=_DEFAULTS,
        tower=_TOWER,
        video_pixels=_VIDEO_PIXELS,
    )
    patch_frames, cutting = (
        files.vision.take("temporal_patch_size", int),
        {"factor": files.side, **files.budget},
    )
    if deployment.frames:
        size = smart_resize_video(deployment.frames, *files.camera, patch_frames=patch_frames, **cutting)
        runs = [VisualRun(stamp, (0,)) for stamp in timestamps(folder, deployment, patch_frames)]
    else:
        size, runs = smart_resize(*files.camera, **cutting), [VisualRun((), (0,))]
    fields = text_fields(files.fields, "text_config", _TEXT)
    text = read_text(fields, _TEXT, sections=_SECTIONS, interleaved=True)
    tower = read_tower(
        files,
        size,
        gated=False,
        position_side=position_side(files.vision),
        deep_blocks=_deep_blocks(files.vision, text.decoder.layers),
    )
    return assemble(files, tower, text, runs)


def timestamps(folder: CheckpointFolder, deployment: Deployment, patch_frames: int) -> list[tuple[int, ...]]:
    """Return what precedes each clip of a video: its mean time in words, as token ids.

    Args:
        folder: The checkpoint whose tokenizer is asked.
        deployment: How the model will be used: frames, and how many a second.
        patch_frames: Frames of a clip; one at the end that is not full is filled up with its last frame.

    Raises:
        CheckpointError: The checkpoint has no tokenizer, or a broken one.
    """
    tokenizer = folder.tokenizer
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


def prompt(views: int) -> str:
    """Return the text around ``views`` pictures that the published chat template writes."""
    return chat_prompt(views, system=None)


def _deep_blocks(fields: JsonFields, layers: int) -> tuple[int, ...]:
    blocks, depth = fields.items("deepstack_visual_indexes", int), fields.take("depth", int)
    if list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(depth)) or len(blocks) > layers:
        raise CheckpointError(
            f"deepstack_visual_indexes: expected blocks out of 0..{depth - 1}, ascending, at most one for each of "
            f"{layers} decoder layers, found {list(blocks)}."
        )
    return blocks


READER = AnsweringReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    classes=("Qwen3VLForConditionalGeneration",),
    prompt=prompt,
    placeholders=PLACEHOLDERS,
    picture_size=picture_size,
    picture_fit=picture_fit,
    video_spec=video_spec,
)
