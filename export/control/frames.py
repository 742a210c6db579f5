"""Recorded frames, and how they become the inputs of a step graph.

A recording is an ``.npz`` of consecutive control steps of one stream: ``images`` uint8 ``(frames, views, height,
width, 3)`` RGB, ``proprio`` float32 ``(frames, proprio_dim)`` in physical units, ``instruction`` text ``(frames,)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.embedded_tokens import spelling_none
from saccade.export.families.sequence import SequenceLayout
from saccade.proto.errors import ExportError, InstructionError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import Manifest
from saccade.proto.prompt_tokens import PromptTokenizer
from saccade.proto.scales import Scale
from saccade.proto.state_text import state_text
from saccade.proto.statistics import Statistics
from saccade.proto.tensor_names import NOISE

FIELDS = ("images", "proprio", "instruction")


@dataclass(frozen=True)
class Recording:
    """Consecutive frames of one stream, recorded or drawn.

    Args:
        images: Camera images, uint8 ``(frames, views, height, width, 3)``, RGB.
        proprio: Proprioception, float32 ``(frames, proprio_dim)``, physical units.
        instruction: One text for each frame.
        source: Where the frames come from: ``recorded`` or ``synthetic``.
    """

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    instruction: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.instruction)


@dataclass(frozen=True)
class FrameSpec:
    """What frames are for: the robot's side of a model.

    Args:
        views: How many cameras there are.
        image_size: Height and width of their images, pixels.
        instruction: How an instruction becomes tokens.
        tokenizer: Path of the tokenizer file.
        proprio: Scale of proprioception.
        proprio_dim: How many numbers proprioception has.
        segments: Name to number of tokens of the decoder's segments, in order.
        noise_shape: Actions of a chunk, and numbers of noise for each.
    """

    views: int
    image_size: tuple[int, int]
    instruction: InstructionSpec
    tokenizer: Path
    proprio: Scale
    proprio_dim: int
    segments: Mapping[str, int]
    noise_shape: tuple[int, int]

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint[ActingFamily]) -> FrameSpec:
        """Return what a checkpoint's frames are."""
        embodiment, model = checkpoint.embodiment, checkpoint.model
        return cls(
            len(embodiment.views),
            model.image_size,
            checkpoint.instruction,
            checkpoint.tokenizer,
            checkpoint.statistics.proprio,
            embodiment.proprio.dim,
            model.segments,
            (model.action_shape[0], model.noise_dim),
        )

    @classmethod
    def of_bundle(cls, bundle: Path, manifest: Manifest) -> FrameSpec:
        """Return what a bundle's frames are.

        Args:
            bundle: Folder of the bundle.
            manifest: Its manifest; it controls a robot.

        Raises:
            StatisticsError: The statistics cannot be read.
        """
        statistics = Statistics.read(
            bundle / manifest.statistics,
            manifest.statistics_key,
            action_dim=manifest.action.dim,
            proprio_dim=manifest.proprio.dim,
        )
        view = manifest.views[0]
        return cls(
            len(manifest.views),
            (view.height, view.width),
            manifest.instruction,
            bundle / manifest.instruction.tokenizer,
            statistics.proprio,
            manifest.proprio.dim,
            {segment.name: segment.tokens for segment in manifest.sequence},
            (manifest.action.chunk, manifest.noise_dim),
        )


def read_recording(path: Path, checkpoint: Checkpoint[ActingFamily]) -> Recording:
    """Read recorded frames of a checkpoint.

    Raises:
        ExportError: The file is no recording, or does not fit the checkpoint.
    """
    return read_frames(path, FrameSpec.of_checkpoint(checkpoint))


def read_frames(path: Path, spec: FrameSpec) -> Recording:
    """Read recorded frames.

    Args:
        path: The recording (.npz).
        spec: What the frames are for.

    Raises:
        ExportError: The file is no recording, or does not fit.
    """
    try:
        with path.open("rb") as file:
            file.read(1)  # or what cannot be read would pass for another kind of file
        if not is_zipfile(path):
            raise BadZipFile("another kind of file")
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
    frames = len(instruction)
    image = (frames, spec.views, *spec.image_size, 3)
    if frames == 0 or images.dtype != np.uint8 or images.shape != image:
        raise ExportError(
            f"{path.name}: images: expected uint8{list(image)}, at least 1 frame, found {images.dtype}"
            f"{list(images.shape)}."
        )
    if proprio.shape != (frames, spec.proprio_dim):
        raise ExportError(
            f"{path.name}: proprio: expected {[frames, spec.proprio_dim]}, found {list(proprio.shape)}."
        )
    texts = tuple(map(str, instruction.tolist()))
    return Recording(images, proprio.astype(np.float32), texts, "recorded")


def synthetic_recording(checkpoint: Checkpoint[ActingFamily], frames: int, seed: int = 0) -> Recording:
    """Draw a slowly changing random scene, for exports without recorded frames."""
    embodiment, rng = checkpoint.embodiment, np.random.default_rng(seed)
    (height, width), scale = checkpoint.model.image_size, checkpoint.statistics.proprio
    coarse = rng.integers(0, 256, (len(embodiment.views), -(-height // 8), -(-width // 8), 3))
    scene = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    images = np.stack([np.roll(scene, 3 * frame, axis=2) for frame in range(frames)]).astype(np.uint8)
    proprio = rng.uniform(*scale.bounds, (frames, embodiment.proprio.dim)).astype(np.float32)
    return Recording(images, proprio, _random_texts(checkpoint, frames, rng), "synthetic")


def _random_texts(
    checkpoint: Checkpoint[ActingFamily], frames: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """Instructions of one word up to as many as fit, so that no token, mask or position is the same in all frames."""
    tokenizer, most = Tokenizer.from_file(str(checkpoint.tokenizer)), checkpoint.instruction.max_tokens
    prompts = PromptTokenizer(tokenizer, checkpoint.instruction)
    pieces = (tokenizer.decode([index]).strip() for index in sorted(tokenizer.get_vocab().values()))
    state = _longest_state(checkpoint)
    rows = checkpoint.instruction.embedding_rows
    words = spelling_none(sorted({piece for piece in pieces if piece.isalpha()}), tokenizer, rows) or ["a"]
    texts = []
    for frame in range(frames):
        chosen = [str(rng.choice(words))]
        while len(chosen) <= frame % most:
            longer = [*chosen, str(rng.choice(words))]
            if len(prompts.ids(" ".join(longer), state)) > most:
                break
            chosen = longer
        texts.append(" ".join(chosen))
    return tuple(texts)


def _longest_state(checkpoint: Checkpoint[ActingFamily]) -> str:
    """Return a state in text that takes as much room as any, if the prompt tells one."""
    spec, dim = checkpoint.instruction, checkpoint.embodiment.proprio.dim
    return state_text(np.full(dim, 2.0), spec.state_bins) if spec.state_bins else ""


def host_inputs(recording: Recording, checkpoint: Checkpoint[ActingFamily]) -> Iterator[tuple[Tensor, ...]]:
    """Yield what the graph takes from the host for each frame, batch 1, in the order of the family's ``host_inputs``.

    Raises:
        ExportError: An instruction is no text, has a token that the model does not have, or is too long for it.
    """
    for tensors in host_tensors(recording, FrameSpec.of_checkpoint(checkpoint)):
        yield tuple(tensors[name] for name in checkpoint.model.host_inputs)


def host_tensors(recording: Recording, frames: FrameSpec) -> Iterator[dict[str, Tensor]]:
    """Yield all that a graph may take from the host for each frame, batch 1, by name.

    Args:
        recording: The frames.
        frames: What they are for.

    Raises:
        ExportError: An instruction is no text, has a token that the model does not have, or is too long for it.
    """
    spec = frames.instruction
    prompts = PromptTokenizer(Tokenizer.from_file(str(frames.tokenizer)), spec)
    layout, noise = SequenceLayout(frames.segments), torch.Generator().manual_seed(0)
    for index, text in enumerate(recording.instruction):
        proprio = frames.proprio.normalise(recording.proprio[index : index + 1])
        state = state_text(proprio[0], spec.state_bins) if spec.state_bins else ""
        try:
            ids = prompts.ids(text, state)
        except InstructionError as error:
            raise ExportError(f"frame {index}: {error.message}") from error
        if not 1 <= len(ids) <= spec.max_tokens:
            raise ExportError(
                f"frame {index}: expected a prompt of 1 to {spec.max_tokens} tokens, found {len(ids)}: "
                f"{spec.prompt(text, state)!r}."
            )
        mask, positions = layout.host_inputs(torch.tensor([len(ids)]))
        yield {
            "images": torch.from_numpy(np.ascontiguousarray(recording.images[index : index + 1])),
            "proprio": torch.from_numpy(proprio),
            "token_ids": torch.tensor([ids + [spec.pad_id] * (spec.max_tokens - len(ids))]),
            "attention_mask": mask,
            "position_ids": positions,
            NOISE: torch.randn(1, *frames.noise_shape, generator=noise),
        }
