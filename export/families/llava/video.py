"""LLaVA-Video as published, in the layout of the LLaVA-NeXT repository: the model of LLaVA-OneVision about videos.

    [system and what precedes] [visual: frames, half the side] [question, padded on its right]

There is no class of transformers for these checkpoints, no image processor's file and no chat template for pictures:
the tower is named, not described, and prompt and pixels are those of the repository's code.

Source:
    LLaVA-Video (2410.02713): ``llava_arch.py``, ``siglip_encoder.py`` and ``conversation.py`` (``qwen_1_5``) of
    LLaVA-VL/LLaVA-NeXT. Fixed here: the number of frames; the sentence on a video's length, which its examples put
    before the question, is left to ``--prompt``.
"""

from __future__ import annotations

from saccade.export.families.deployment import Deployment
from saccade.export.families.llava.onevision import (
    TOWER,
    LlavaOnevisionConfig,
    build,
    picture_fit,
    picture_size,
    read_video_plan,
    video_spec,
)
from saccade.export.families.llava.tiled import fit_prompt
from saccade.export.families.prompt_layout import IMAGE, PromptLayout, lay_out_prompt
from saccade.export.families.reader import AnsweringReader, UsualDeployment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.text_decoder import TEXT_MODELS, read_text_model
from saccade.export.loading.vision_tower import (
    SIGLIP,
    TOWER_DEFAULTS,
    read_tower,
    tower_renames,
    tower_unused,
)
from saccade.proto.errors import ExportError

MODEL_TYPE = "llava_qwen"
_TEXT = "qwen2"
_HALF = (0.5, 0.5, 0.5)
"""Mean and deviation of pixels in the repository's ``SigLipImageProcessor``."""


def read_config(folder: CheckpointFolder, deployment: Deployment) -> LlavaOnevisionConfig:
    """Read the configuration of a checkpoint.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; each view is a video.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
        ExportError: The deployment asks for still pictures, or for frames of one size.
    """
    if not deployment.frames or deployment.image_size is not None:
        raise ExportError(
            f"expected frames and no image size, found {deployment.frames} and {deployment.image_size}: LLaVA-Video "
            "takes frames of any size; give --frames, such as 64."
        )
    defaults = {**TEXT_MODELS[_TEXT].defaults, "mm_newline_position": "one_token"}
    fields = folder.fields("config.json", defaults)
    for name, accepted in (
        ("model_type", (MODEL_TYPE,)),
        ("mm_vision_tower", ("google/siglip-so400m-patch14-384",)),
        ("mm_hidden_size", (TOWER["hidden_size"],)),
        ("mm_projector_type", ("mlp2x_gelu",)),
        ("mm_patch_merge_type", ("spatial_unpad", "flat")),
        ("mm_vision_select_feature", ("patch",)),
    ):
        fields.expect(name, accepted)
    tower = read_tower(
        JsonFields(TOWER, "mm_vision_tower", TOWER_DEFAULTS[SIGLIP]),
        read_block=-1,
        final_norm=False,
        mean=_HALF,
        std=_HALF,
    )
    text = read_text_model(fields, _TEXT)
    plan = read_video_plan(fields, tower, deployment)
    items = lay_out_prompt(deployment.before, plan.items, deployment.between)
    return LlavaOnevisionConfig(
        tower=tower,
        text=text,
        blocks=plan.blocks,
        prompt_layout=fit_prompt(PromptLayout(items, deployment.max_text_tokens), text),
        tiling=None,
        tiles=None,
        resampling=plan.resampling,
        frames=deployment.frames,
        breaks_rows=plan.breaks_rows,
    )


def key_rules(config: LlavaOnevisionConfig) -> KeyRules:
    """Return how stored weights come to our names."""
    return KeyRules(
        rename=(
            *tower_renames(r"model\.vision_tower\.vision_tower\.", "vision"),
            (r"^model\.mm_projector\.0\.", "projector.fc1."),
            (r"^model\.mm_projector\.2\.", "projector.fc2."),
            (r"^model\.image_newline$", "image_newline"),
            (r"^model\.(?=(?:embed_tokens|layers|norm)\.)", "decoder."),
        ),
        unused=tower_unused(config.tower, "vision"),
        ties={"lm_head.weight": "decoder.embed_tokens.weight"} if config.text.is_tied else {},
    )


def prompt(views: int) -> str:
    """Return the text around ``views`` videos: the repository's conversation ``qwen_1_5``."""
    return (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"{IMAGE * views}\n{{instruction}}<|im_end|>\n<|im_start|>assistant\n"
    )


READER = AnsweringReader(
    name=MODEL_TYPE,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    classes=("LlavaQwenForCausalLM",),
    prompt=prompt,
    picture_size=picture_size,
    picture_fit=picture_fit,
    video_spec=video_spec,
    has_chat_template=False,  # that beside these weights is the language model's: it knows no pictures
    usual=UsualDeployment(
        views=1, text_tokens=64, new_tokens=64, image_size=(480, 640), any_size_of_many=True
    ),
)
