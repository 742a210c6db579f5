"""The whole of ``saccade verify``: the same observations through our side and through the published class."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.export.bundle.manifest_parts import producers
from saccade.export.bundle.progress import Progress
from saccade.export.control.frames import Recording, read_recording, synthetic_recording
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.export.families.reader import ActingReader
from saccade.export.families.registry import answering_reader, find_reader, load_checkpoint
from saccade.export.families.square_vision import SquareVision
from saccade.export.loading.checkpoint_folder import CONFIG_NAME, TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.lerobot_features import CAMERA_PREFIX, read_features
from saccade.export.verification.acting_stages import acting_stages, named_inputs, noise_of
from saccade.export.verification.answering_stages import answering_stages, read_questions
from saccade.export.verification.bundle_stages import (
    bundle_acting_stages,
    bundle_answering_stages,
    check_same_model,
    checkpoint_as_bundled,
    read_whole_bundle,
)
from saccade.export.verification.comparison import StageError, compare_stages
from saccade.export.verification.exchange import Told, ask_reference
from saccade.export.verification.published import Published, published_class
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.errors import ExportError
from saccade.proto.manifest import Manifest

QUESTIONS = ("What is in the picture?", "Where is the red cup, and what stands behind it?")
NEW_TOKENS = 4
"""Tokens of an answer that are compared."""
_ROOM = 128
"""Room for a question and its answer, tokens."""
_TOKENIZER_FILES = (TOKENIZER_NAME, "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """What is compared with the published class.

    Args:
        checkpoint: Folder of the checkpoint, which the class reads.
        bundle: A bundle that was exported from it, to be compared instead of our model of it; None = our model.
        tokenizer: A ``tokenizer.json``, or a folder with one; None = the checkpoint's own.
        head_step: Training step of the heads, where the checkpoint has several; None = the only one.
        frames: Recorded frames (.npz); None draws some.
        count: How many frames are drawn.
        image_size: Height and width of the pictures that are drawn for a model that answers, pixels.
        reference_python: Interpreter that has the published class; None = this one.
        tolerance: Largest relative difference of a stage.
    """

    checkpoint: Path
    bundle: Path | None = None
    tokenizer: Path | None = None
    head_step: str | None = None
    frames: Path | None = None
    count: int = 2
    image_size: tuple[int, int] = (480, 640)
    reference_python: Path | None = None
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Verification:
    """What a comparison with a published class came to.

    Args:
        model: Name of the checkpoint's folder.
        family: Its family.
        side: What was compared with the class: ``PyTorch``, or ``ONNX Runtime`` for a bundle.
        reference: Name of the class, or what it is composed of.
        reference_versions: Versions of its libraries, by name.
        versions: Versions of ours, by name.
        frames: How many observations were compared.
        source: Where they come from: ``recorded`` or ``synthetic``.
        tolerance: Largest relative difference that agrees.
        stages: What each stage came to, in order.
        not_compared: Stages that one side alone has.
    """

    model: str
    family: str
    side: str
    reference: str
    reference_versions: Mapping[str, str]
    versions: Mapping[str, str]
    frames: int
    source: str
    tolerance: float
    stages: tuple[StageError, ...]
    not_compared: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether every stage agrees."""
        return all(stage.agrees for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the receipt; what is not finite is null."""
        content = {"agrees": self.agrees, **asdict(self)}
        for stage in content["stages"]:
            for name in ("error", "relative"):
                stage[name] = stage[name] if np.isfinite(stage[name]) else None
        return content


@dataclass(frozen=True)
class _Sides:
    """Our arrays, the reference's, and on what they were computed."""

    ours: Mapping[str, NDArray[Any]]
    told: Told
    frames: int
    source: str


def verify(request: VerifyRequest, progress: Progress) -> Verification:
    """Compare a checkpoint, or a bundle of it, with the published class.

    Args:
        request: What is compared.
        progress: Told of each part of the work.

    Raises:
        SaccadeError: Something does not fit, the class is not installed, or it failed. A comparison that ends in
            disagreement raises nothing: :attr:`Verification.agrees` tells.
    """
    folder = CheckpointFolder(request.checkpoint, request.tokenizer)
    reader = find_reader(folder)
    published = published_class(folder, reader.name)
    manifest = None if request.bundle is None else read_whole_bundle(request.bundle)
    compare = _act if isinstance(reader, ActingReader) else _answer
    with TemporaryDirectory(prefix="saccade-verify-") as place:
        sides = compare(request, folder, published, manifest, Path(place), progress)
    stages, missing = compare_stages(sides.ours, sides.told.arrays, sides.frames, request.tolerance)
    if not stages:
        raise ExportError("expected stages that both sides have, found none; nothing was compared.")
    return Verification(
        model=request.checkpoint.resolve().name,
        family=reader.name,
        side="PyTorch" if manifest is None else "ONNX Runtime",
        reference=sides.told.name,
        reference_versions=sides.told.versions,
        versions=producers(),
        frames=sides.frames,
        source=sides.source,
        tolerance=request.tolerance,
        stages=tuple(stages),
        not_compared=tuple(missing),
    )


def _act(
    request: VerifyRequest,
    folder: CheckpointFolder,
    published: Published,
    manifest: Manifest | None,
    place: Path,
    progress: Progress,
) -> _Sides:
    """Run both sides of a family that acts."""
    progress("read the checkpoint")
    checkpoint = load_checkpoint(
        request.checkpoint, mapped=True, tokenizer=request.tokenizer, head_step=request.head_step
    )
    recording = (
        synthetic_recording(checkpoint, request.count)
        if request.frames is None
        else read_recording(request.frames, checkpoint)
    )
    inputs = named_inputs(recording, checkpoint)
    noise = noise_of(inputs)
    given: dict[str, NDArray[Any]] = {"images": recording.images, "proprio": recording.proprio}
    if noise is not None:
        given["noise"] = noise
    asked = _asked(request, folder, checkpoint, recording, place)
    progress("run the published class")
    told = ask_reference(published, asked, given, request.reference_python, place)
    if request.bundle is None or manifest is None:
        progress("run our model")
        ours = acting_stages(checkpoint, recording, inputs)
    else:
        progress("run the bundle")
        bundled = checkpoint_as_bundled(checkpoint, request.bundle, manifest)
        ours = bundle_acting_stages(bundled, recording, request.bundle, manifest)
    return _Sides(ours, told, len(recording), recording.source)


def _asked(
    request: VerifyRequest,
    folder: CheckpointFolder,
    checkpoint: Checkpoint[ActingFamily],
    recording: Recording,
    place: Path,
) -> dict[str, Any]:
    """Return what a published class that acts is asked for."""
    embodiment = checkpoint.embodiment
    return {
        "checkpoint": str(request.checkpoint.resolve()),
        "family": checkpoint.family,
        "tokenizer": _tokenizer_folder(folder, checkpoint.tokenizer, checkpoint.instruction.pad_id, place),
        "instructions": recording.instruction,
        "cameras": _cameras(folder, embodiment),
        "template": checkpoint.instruction.template,
        "data_set": embodiment.statistics_key,
        "chunk": embodiment.action.chunk,
        "action_dim": embodiment.action.dim,
        "crop": checkpoint.model.picture.crop if isinstance(checkpoint.model, SquareVision) else 1.0,
        "head_step": request.head_step,
    }


def _answer(
    request: VerifyRequest,
    folder: CheckpointFolder,
    published: Published,
    manifest: Manifest | None,
    place: Path,
    progress: Progress,
) -> _Sides:
    """Run both sides of a family that answers."""
    progress("read the checkpoint")
    images, questions, source = _questions(request, manifest)
    prompted = _prompted(request, folder, manifest, images)
    asked = {
        "checkpoint": str(request.checkpoint.resolve()),
        "tokenizer": _tokenizer_folder(folder, prompted.tokenizer, prompted.instruction.pad_id, place),
        "instructions": questions,
        "new_tokens": NEW_TOKENS,
    }
    progress("run the published class")
    told = ask_reference(published, asked, {"images": images}, request.reference_python, place)
    if request.bundle is None or manifest is None:
        progress("run our model")
        ours = answering_stages(prompted, images, questions, NEW_TOKENS)
    else:
        progress("run the bundle")
        ours = bundle_answering_stages(prompted, images, questions, request.bundle, manifest)
    return _Sides(ours, told, len(questions), source)


def _prompted(
    request: VerifyRequest, folder: CheckpointFolder, manifest: Manifest | None, images: NDArray[np.uint8]
) -> Prompted:
    """Return the checkpoint, deployed for the pictures at hand, or as the bundle is."""
    room = _ROOM if manifest is None else manifest.instruction.max_tokens
    usual, (_, views, height, width, _) = answering_reader(folder).usual, images.shape
    is_any_size = usual.image_size is None or (usual.any_size_of_many and views > 1)
    deployment = Deployment(
        views=views, image_size=None if is_any_size else (height, width), max_text_tokens=room
    )
    prompted = read_prompted(request.checkpoint, deployment, tokenizer=request.tokenizer)
    if request.bundle is None or manifest is None:
        return prompted
    check_same_model(manifest, BundleKind.ANSWER, prompted.family, prompted.model.grid.tokens)
    return replace(
        prompted,
        tokenizer=request.bundle / manifest.instruction.tokenizer,
        instruction=manifest.instruction,
    )


def _questions(
    request: VerifyRequest, manifest: Manifest | None
) -> tuple[NDArray[np.uint8], Sequence[str], str]:
    """Return pictures, uint8 ``(frames, pictures, height, width, 3)``, a question for each frame, and their source."""
    if manifest is not None and manifest.answer is not None and manifest.answer.video is not None:
        raise ExportError(
            "expected a bundle that answers about still pictures, found one for videos; export the checkpoint for "
            "pictures to verify it."
        )
    if request.frames is not None:
        return *read_questions(request.frames), "recorded"
    views = () if manifest is None else manifest.views
    height, width = (views[0].height, views[0].width) if views else request.image_size
    count = len(views) or 1
    drawn = np.random.default_rng(0).integers(
        0, 256, (request.count, count, -(-height // 8), -(-width // 8), 3), dtype=np.uint8
    )
    images = drawn.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    return images, [QUESTIONS[frame % len(QUESTIONS)] for frame in range(request.count)], "synthetic"


def _tokenizer_folder(folder: CheckpointFolder, tokenizer: Path, pad_id: int, place: Path) -> str:
    """Put the tokenizer where transformers finds it, with the settings that lie beside it, or the least of them."""
    copy = place / "tokenizer"
    copy.mkdir()
    for name in _TOKENIZER_FILES:
        for source in (tokenizer.parent, *folder.places):
            if (source / name).is_file() and not (copy / name).exists():
                shutil.copyfile(source / name, copy / name)
    settings = copy / "tokenizer_config.json"
    if not settings.exists():
        least = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": folder.tokenizer.id_to_token(pad_id),
        }
        settings.write_text(json.dumps(least), encoding="utf-8")
    return str(copy)


def _cameras(folder: CheckpointFolder, embodiment: Embodiment) -> list[str]:
    """Return what lerobot's ``config.json`` calls the robot's cameras; of other checkpoints nothing."""
    if "input_features" not in folder.config:
        return []
    full = {
        name.removeprefix(CAMERA_PREFIX): name
        for name in folder.fields(CONFIG_NAME).child("input_features").names()
    }
    return [full[name] for name in read_features(folder).check_views(embodiment.views, embodiment.cameras)]
