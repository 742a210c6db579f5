"""Recorded frames, and how they become the inputs of a step graph.

A recording is an ``.npz`` of consecutive control steps of one stream: ``images`` uint8 ``(frames, views, height,
width, 3)`` RGB, ``proprio`` float32 ``(frames, proprio_dim)`` in physical units, ``instruction`` text ``(frames,)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.checkpoint import Checkpoint
from saccade.proto.errors import ExportError

FIELDS = ("images", "proprio", "instruction")


@dataclass(frozen=True)
class Recording:
    """Consecutive frames.

    Args:
        images: uint8 ``(frames, views, height, width, 3)``.
        proprio: float32 ``(frames, proprio_dim)``, physical units.
        instruction: One text for each frame.
        source: ``recorded`` or ``synthetic``.
    """

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    instruction: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.instruction)


def read_recording(path: Path, checkpoint: Checkpoint) -> Recording:
    """Read recorded frames.

    Raises:
        ExportError: Not such a file, or it does not fit the checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [field for field in FIELDS if field not in stored]
            if missing:
                raise ExportError(
                    f"{path.name}: expected the arrays {', '.join(FIELDS)}, found no {missing}."
                )
            images, proprio, instruction = (stored[field] for field in FIELDS)
    except (OSError, ValueError, BadZipFile) as error:
        raise ExportError(
            f"{path.name}: expected recorded frames (.npz without pickles), found: {error}."
        ) from error
    config, frames = checkpoint.config, len(instruction)
    image = (frames, config.views, config.image_size, config.image_size, 3)
    if frames == 0 or images.dtype != np.uint8 or images.shape != image:
        raise ExportError(
            f"{path.name}: images: expected uint8{list(image)}, at least 1 frame, found {images.dtype}"
            f"{list(images.shape)}."
        )
    if proprio.shape != (frames, config.proprio_dim):
        raise ExportError(
            f"{path.name}: proprio: expected {[frames, config.proprio_dim]}, found {list(proprio.shape)}."
        )
    texts = tuple(map(str, instruction.tolist()))
    return Recording(images, proprio.astype(np.float32), texts, "recorded")


def synthetic_recording(checkpoint: Checkpoint, frames: int, seed: int = 0) -> Recording:
    """Draw a slowly changing random scene, for exports without recorded frames."""
    config, rng = checkpoint.config, np.random.default_rng(seed)
    side, q = config.image_size, checkpoint.statistics.proprio
    coarse = rng.integers(0, 256, (config.views, -(-side // 8), -(-side // 8), 3))
    scene = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]
    images = np.stack([np.roll(scene, 3 * frame, axis=2) for frame in range(frames)]).astype(np.uint8)
    proprio = rng.uniform(q.low, q.high, (frames, config.proprio_dim)).astype(np.float32)
    return Recording(images, proprio, _random_texts(checkpoint, frames, rng), "synthetic")


def _random_texts(checkpoint: Checkpoint, frames: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Instructions of one word up to as many as fit, so that no token, mask or position is the same in all frames."""
    tokenizer, most = _tokenizer(checkpoint), checkpoint.config.max_text_tokens
    pieces = (tokenizer.decode([index]).strip() for index in sorted(tokenizer.get_vocab().values()))
    words = sorted({piece for piece in pieces if piece.isalpha()}) or ["a"]
    texts = []
    for frame in range(frames):
        chosen = [str(rng.choice(words))]
        while len(chosen) <= frame % most:
            longer = [*chosen, str(rng.choice(words))]
            if len(_prompt_ids(tokenizer, checkpoint, " ".join(longer))[1]) > most:
                break
            chosen = longer
        texts.append(" ".join(chosen))
    return tuple(texts)


def host_inputs(recording: Recording, checkpoint: Checkpoint) -> Iterator[tuple[Tensor, ...]]:
    """Yield the graph's host inputs of each frame, batch 1: images, proprio, token_ids, mask, positions."""
    tokenizer, config = _tokenizer(checkpoint), checkpoint.config
    for index, text in enumerate(recording.instruction):
        prompt, ids = _prompt_ids(tokenizer, checkpoint, text)
        if not 1 <= len(ids) <= config.max_text_tokens:
            raise ExportError(
                f"frame {index}: expected a prompt of 1 to {config.max_text_tokens} tokens, found {len(ids)}: "
                f"{prompt!r}."
            )
        token_ids = torch.tensor([ids + [config.pad_id] * (config.max_text_tokens - len(ids))])
        mask, positions = checkpoint.model.sequence_inputs(torch.tensor([len(ids)]))
        proprio = checkpoint.statistics.proprio.normalise(recording.proprio[index : index + 1])
        images = torch.from_numpy(np.ascontiguousarray(recording.images[index : index + 1]))
        yield images, torch.from_numpy(proprio), token_ids, mask, positions


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _prompt_ids(tokenizer: Tokenizer, checkpoint: Checkpoint, text: str) -> tuple[str, list[int]]:
    """Return the prompt of an instruction and its tokens."""
    prompt = checkpoint.embodiment.template.replace("{instruction}", text.strip())
    return prompt, tokenizer.encode(prompt, add_special_tokens=False).ids
