"""Qwen2.5-VL: a tower with attention windows over pictures of any size, and Qwen2 with positions in three axes.

    [what precedes, vision start, vision end] [visual: merged patches] [question, padded on its right]

With frames each view is a video: two frames make a clip, and clips follow one another on the time axis as far apart as
they are in seconds.

Source:
    Qwen2.5-VL (2502.13923) as in transformers' ``Qwen2_5_VLForConditionalGeneration``, 5.23. Fixed here: the number of
    pictures, their size, and the layout of the prompt; pictures come resized to ``tower.picture_size``.
"""

from __future__ import annotations

import torch

from saccade.export.families.deployment import Deployment
from saccade.export.families.qwen_vl.config import MARKS, assemble, open_files, read_text, read_tower
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
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.smart_resize import smart_resize
from saccade.export.loading.text_decoder import TEXT_MODELS, text_fields

MODEL_TYPE = "qwen2_5_vl"
_TEXT = "qwen2_5_vl_text"
_SECTIONS = (16, 24, 24)
_DEFAULTS = {**TEXT_MODELS[_TEXT].defaults, **MARKS, "tie_word_embeddings": False}
"""What ``Qwen2_5_VLConfig`` assumes; files on the Hub keep the text model's fields on top."""
_TOWER = {
    "depth": 32,
    "hidden_size": 3584,
    "hidden_act": "silu",
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "tokens_per_second": 4,
    "window_size": 112,
    "out_hidden_size": 3584,
    "fullatt_block_indexes": (7, 15, 23, 31),
}
"""What ``Qwen2_5_VLVisionConfig`` assumes."""
_VIDEO_PIXELS = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}
"""Pixels of a frame, at least and at most: the defaults of the video processor's class."""


def read_config(folder: CheckpointFolder, deployment: Deployment) -> QwenVlConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; with frames each view is a video of so many.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment leaves the size of pictures open, or the pictures are too elongated.
    """
    files = open_files(
        folder,
        deployment,
        model_type=MODEL_TYPE,
        defaults=_DEFAULTS,
        tower=_TOWER,
        video_pixels=_VIDEO_PIXELS,
    )
    fields, vision = files.fields, files.vision
    tower = read_tower(
        files,
        smart_resize(*files.camera, factor=files.side, **files.budget),
        gated=True,
        window=vision.take("window_size", int) // files.side,
        full_blocks=vision.items("fullatt_block_indexes", int),
    )
    has_own = fields.has("text_config")
    text = read_text(
        text_fields(fields, "text_config", _TEXT) if has_own else fields,
        _TEXT,
        sections=_SECTIONS,
        interleaved=False,
    )
    seconds = tower.patch_frames / deployment.frames_per_second
    times = clip_times(tower.clips, seconds, vision.take("tokens_per_second", int))
    return assemble(files, tower, text, [VisualRun((), times)])


def clip_times(clips: int, seconds: float, tokens_per_second: int) -> tuple[int, ...]:
    """Return where the clips of a video lie on the time axis, rounded down; in float32, as the reference counts.

    Args:
        clips: Number of clips.
        seconds: Seconds from one clip to the next.
        tokens_per_second: Positions that the time axis has for a second.
    """
    step = torch.tensor(seconds, dtype=torch.float32) * tokens_per_second
    return tuple((torch.arange(clips) * step).long().tolist())


def key_rules(config: QwenVlConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return qwen_key_rules(
        config,
        (
            (r"^vision\.merger\.ln_q\.", "projector.norm."),
            (r"^vision\.merger\.mlp\.0\.", "projector.fc1."),
            (r"^vision\.merger\.mlp\.2\.", "projector.fc2."),
        ),
    )


def prompt(views: int) -> str:
    """Return the text around ``views`` pictures that the published chat template writes."""
    return chat_prompt(views, system="You are a helpful assistant.")


READER = AnsweringReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    classes=("Qwen2_5_VLForConditionalGeneration",),
    prompt=prompt,
    placeholders=PLACEHOLDERS,
    picture_size=picture_size,
    picture_fit=picture_fit,
    video_spec=video_spec,
)
