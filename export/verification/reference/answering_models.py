"""LLaVA, LLaVA-NeXT, LLaVA-OneVision and Qwen-VL as transformers runs them, with the processor of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from .stages import Stages, listen, pixels_last


def run(request: Mapping[str, Any], given: Mapping[str, NDArray[Any]], stages: Stages) -> str:
    """Ask the model of a checkpoint.

    Args:
        request: ``checkpoint``, ``instructions`` (one question for each frame), ``new_tokens``.
        given: ``images``, uint8 ``(frames, pictures, height, width, 3)``.
        stages: Told of every stage.

    Returns:
        Name of the class.
    """
    model, processor = _load(request["checkpoint"])
    first = _projector_input(model)
    features = None if first is None else listen(first, to_input=True)
    for frame, question in enumerate(request["instructions"]):
        stages.frame = frame
        if features is not None:
            features.clear()
        inputs = _inputs(processor, given["images"][frame], question)
        _tell(model, inputs, features, stages, request["new_tokens"])
    return f"{type(model).__module__}.{type(model).__name__}"


def _load(folder: str) -> tuple[Any, Any]:
    """Return model and processor, both of the files of a checkpoint alone.

    Raises:
        ValueError: Weights were drawn, because the checkpoint has none under the names that this version knows.
    """
    from_files = {"trust_remote_code": False, "local_files_only": True}
    loader: Any = AutoModelForImageTextToText
    model, info = loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **from_files)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(
            f"transformers {transformers.__version__} found no weights for {len(missing)} names, first "
            f"{missing[0]}: it is not the version that wrote them"
        )
    processor: Any = AutoProcessor.from_pretrained(folder, **from_files)
    # As the models were trained and evaluated: pictures resized by Pillow.
    processor.image_processor = AutoImageProcessor.from_pretrained(folder, use_fast=False, **from_files)
    return model.eval(), processor


def _projector_input(model: Any) -> nn.Module | None:
    """Return the layer that takes the tower's patches; None where patches are merged on their way (Qwen-VL)."""
    projector = getattr(model.model, "multi_modal_projector", None)
    return None if projector is None else projector.linear_1


def _inputs(processor: Any, pictures: NDArray[np.uint8], question: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"type": "image", "image": Image.fromarray(picture)} for picture in pictures
    ]
    turn = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    made = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    return dict(made)


def _tell(
    model: Any, inputs: dict[str, Any], features: list[Tensor] | None, stages: Stages, new_tokens: int
) -> None:
    """Run one question; the decoder's input is what the language model is given in place of token ids."""
    ids = inputs["input_ids"][0]
    is_picture = ids == model.config.image_token_id
    stages.put("prompt tokens", torch.where(is_picture, -1, ids))
    entering: list[Tensor] = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda _, __, named: entering.append(named["inputs_embeds"][0]), with_kwargs=True
    )
    said = model(**inputs, output_hidden_states=True)
    hook.remove()
    if features is not None:
        stages.put("pictures", pixels_last(inputs["pixel_values"].flatten(0, -4)))
        stages.put("vision features", torch.cat([seen.flatten(0, -2) for seen in features]))
    stages.put("projected tokens", entering[0][is_picture])
    stages.put("decoder input", entering[0])
    stages.put("decoder states", said.hidden_states[-1][0])
    stages.put("logits", said.logits[0, -1])
    answer = model.generate(
        **inputs, min_new_tokens=new_tokens, max_new_tokens=new_tokens, do_sample=False, eos_token_id=None
    )
    stages.put("next tokens", answer[0, len(ids) :])
