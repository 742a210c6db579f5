"""What a bundle computes from an observation: its graphs in ONNX Runtime, its tokenizer, its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.export.bundle.graph_session import GraphSession, open_graph
from saccade.export.control.frames import Recording
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.prompts import Prompted
from saccade.export.verification.acting_stages import action_stages, host_stages, named_inputs
from saccade.export.verification.answering_stages import fitted, question_ids
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.errors import BundleIntegrityError, ExportError
from saccade.proto.manifest import Manifest, StageSpec, read_manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.statistics import Statistics
from saccade.proto.tensor_names import ACTIONS, ATTENTION_MASK, IMAGES, LOGITS, TOKEN_IDS
from saccade.proto.tensor_spec import TensorRole

Arrays = dict[str, NDArray[Any]]


def checkpoint_as_bundled(
    checkpoint: Checkpoint[ActingFamily], bundle: Path, manifest: Manifest
) -> Checkpoint[ActingFamily]:
    """Return a checkpoint with what the host reads in place of its own: the bundle's tokenizer, prompt, statistics.

    Args:
        checkpoint: The checkpoint that the bundle is said to come from.
        bundle: Folder of the bundle.
        manifest: Its manifest.

    Raises:
        ExportError: The bundle is of another model.
        StatisticsError: The bundle's statistics are broken.
    """
    check_same_model(manifest, BundleKind.CONTROL, checkpoint.family, checkpoint.model.grid.tokens)
    dims = {"action_dim": manifest.action.dim, "proprio_dim": manifest.proprio.dim}
    if dims != {
        "action_dim": checkpoint.embodiment.action.dim,
        "proprio_dim": checkpoint.embodiment.proprio.dim,
    }:
        raise ExportError(f"expected a bundle of the checkpoint's robot, found {dims}.")
    return replace(
        checkpoint,
        tokenizer=bundle / manifest.instruction.tokenizer,
        instruction=manifest.instruction,
        statistics=Statistics.read(bundle / manifest.statistics, manifest.statistics_key, **dims),
        embodiment=replace(checkpoint.embodiment, action=manifest.action),
    )


def read_whole_bundle(bundle: Path) -> Manifest:
    """Return the manifest of a bundle whose files are all there, in their full length.

    Args:
        bundle: Folder of the bundle.

    Raises:
        BundleError: The manifest is missing or broken, or a file is missing or of another length.
    """
    manifest = read_manifest(bundle)
    for name, spec in manifest.files.items():
        path = bundle / name
        found = path.stat().st_size if path.is_file() else None
        if found != spec.bytes:
            raise BundleIntegrityError(
                f"{name}: expected {spec.bytes} bytes, as the manifest says, found "
                f"{'no such file' if found is None else found}; copy the bundle again, or export it again."
            )
    return manifest


def check_same_model(manifest: Manifest, kind: BundleKind, family: str, tokens: int) -> None:
    """Check that a bundle was exported from a checkpoint like this one.

    Args:
        manifest: Manifest of the bundle.
        kind: What the checkpoint's bundles are for.
        family: Family of the checkpoint.
        tokens: Visual tokens of the checkpoint.

    Raises:
        ExportError: It was exported from another.
    """
    found = (manifest.kind, manifest.family, manifest.grid.tokens)
    if found != (kind, family, tokens):
        raise ExportError(
            f"expected a bundle of the checkpoint's model ({kind.value}, {family}, {tokens} visual tokens), found "
            f"{manifest.kind.value}, {manifest.family}, {manifest.grid.tokens}; name the checkpoint that it was "
            "exported from."
        )


def bundle_acting_stages(
    checkpoint: Checkpoint[ActingFamily], recording: Recording, bundle: Path, manifest: Manifest
) -> Arrays:
    """Run a bundle that controls a robot on every frame, each as the first after a reset, with all visual tokens.

    Args:
        checkpoint: The checkpoint as :func:`checkpoint_as_bundled` returns it.
        recording: The frames.
        bundle: Folder of the bundle.
        manifest: Its manifest.

    Returns:
        What each stage gave, as ``FRAME/STAGE``.
    """
    graphs = _Graphs(bundle, manifest)
    found: Arrays = {}
    for frame, named in enumerate(named_inputs(recording, checkpoint)):
        told = graphs.run(
            manifest.profile(FULL_PROFILE).stages, {name: value.numpy() for name, value in named.items()}
        )
        stages = {
            **host_stages(checkpoint, recording, named, frame),
            **action_stages(checkpoint, recording, told[ACTIONS][0], frame),
        }
        found |= {f"{frame}/{name}": value for name, value in stages.items()}
    return found


def bundle_answering_stages(
    prompted: Prompted, images: NDArray[np.uint8], questions: Sequence[str], bundle: Path, manifest: Manifest
) -> Arrays:
    """Ask a bundle that answers every question, with all visual tokens.

    Args:
        prompted: The checkpoint, deployed as the bundle is, with the bundle's prompt and tokenizer.
        images: Pictures, uint8 ``(frames, pictures, height, width, 3)``.
        questions: One for each frame.
        bundle: Folder of the bundle.
        manifest: Its manifest.

    Returns:
        Logits of the first token of each answer, as ``FRAME/STAGE``.

    Raises:
        ExportError: A question has no room.
        InputError: A question or a picture does not fit the model.
    """
    graphs = _Graphs(bundle, manifest)
    found: Arrays = {}
    for frame, question in enumerate(questions):
        ids = question_ids(prompted, question, 0)
        padded = np.full((1, manifest.instruction.max_tokens), manifest.instruction.pad_id)
        padded[0, : len(ids)] = ids
        mask = prompted.model.sequence_inputs(torch.tensor([len(ids)])).mask.numpy()
        host = {IMAGES: fitted(prompted, images[frame]), TOKEN_IDS: padded, ATTENTION_MASK: mask}
        told = graphs.run(manifest.profile(FULL_PROFILE).stages, host)
        found[f"{frame}/logits"] = told[LOGITS][0]
    return found


class _Graphs:
    """The graphs of a bundle, each opened once.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
    """

    def __init__(self, bundle: Path, manifest: Manifest) -> None:
        self._bundle = bundle
        self._sessions: dict[str, GraphSession] = {}
        initial, keep = (
            {spec.name: spec.initial for spec in manifest.carry},
            manifest.profile(FULL_PROFILE).keep,
        )
        self._fresh = {
            spec.name: spec.resolve(keep=keep).example(fill=initial.get(spec.name, 1.0))
            for spec in manifest.tensors
            if spec.role in {TensorRole.CARRY, TensorRole.TASK}
        }

    def run(self, stages: Sequence[StageSpec], host: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run stages one after the other as the first control step after a reset; return every tensor by name."""
        known: Arrays = {**self._fresh, **host}
        for stage in stages:
            if stage.graph not in self._sessions:
                self._sessions[stage.graph] = open_graph(self._bundle / stage.graph)
            feeds = {port: known[name] for port, name in stage.inputs.items()}
            told = self._sessions[stage.graph].run(list(stage.outputs), feeds)
            known |= dict(zip(stage.outputs.values(), told, strict=True))
        return known
