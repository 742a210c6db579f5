"""Checkpoint to scorer bundle: a second bundle that says once per task how much each view matters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from saccade.export.bundle.graph_session import open_graph
from saccade.export.bundle.manifest_parts import producers
from saccade.export.bundle.writer import BundleWriter, check_target
from saccade.export.control.frames import host_inputs, read_recording, synthetic_recording
from saccade.export.families.checkpoint import TOKENIZER_NAME, Checkpoint
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.registry import load_checkpoint
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.lint import lint
from saccade.export.steps.scoring_step import ScoringStep
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.errors import ExportError, ReceiptError
from saccade.proto.manifest import (
    FileSpec,
    GridSpec,
    Manifest,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    VectorSpec,
    ViewSpec,
)
from saccade.proto.policy_spec import PolicySpec
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.tensor_names import SCORED_VIEWS
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.proto.versions import BUNDLE_FORMAT_VERSION

GRAPH = "graphs/score.onnx"
INPUTS = ("images", "token_ids", "attention_mask", "position_ids")
TOLERANCE = 1e-4
SYNTHETIC_FRAMES = 8


@dataclass(frozen=True)
class ScoreParity:
    """ONNX Runtime against PyTorch.

    Args:
        frames: Compared.
        source: ``recorded`` or ``synthetic``.
        max_error: Of a score.
        scores: Mean score of each view over the frames.
        distinct: Frames whose views are ranked otherwise than in the first one.
    """

    frames: int
    source: str
    max_error: float
    scores: list[float]
    distinct: int


def export_scorer(
    checkpoint_path: Path, out: Path, *, frames: Path | None = None, overwrite: bool = False
) -> ScoreParity:
    """Export the view scorer of a checkpoint.

    Args:
        checkpoint_path: Folder of the checkpoint.
        out: The bundle to be.
        frames: Recorded frames for the parity check; None draws synthetic ones.
        overwrite: Replace a bundle at ``out``.

    Raises:
        SaccadeError: Something does not fit or the check failed; nothing is left behind.
    """
    check_target(out, overwrite=overwrite)
    checkpoint = _single_pass(checkpoint_path)
    recording = (
        synthetic_recording(checkpoint, SYNTHETIC_FRAMES)
        if frames is None
        else read_recording(frames, checkpoint)
    )
    inputs = [
        (images, ids, mask, positions)
        for images, _, ids, mask, positions in host_inputs(recording, checkpoint)
    ]
    step = ScoringStep(checkpoint.model, checkpoint.model.config.proprio_dim).eval()
    with BundleWriter(out, overwrite=overwrite) as writer:
        for name in ("graphs", "receipts"):
            (writer.folder / name).mkdir()
        model = to_graph(step, inputs[0], GraphPorts(INPUTS, (SCORED_VIEWS,)), "view scorer")
        receipt = lint(model, GRAPH)
        ir.save(model, writer.folder / GRAPH)
        parity = _compare(writer.folder / GRAPH, step, inputs, recording.source)
        shutil.copyfile(checkpoint.tokenizer, writer.folder / TOKENIZER_NAME)
        for name, content in (("parity", asdict(parity)), ("lint", asdict(receipt))):
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
            (writer.folder / "receipts" / f"{name}.json").write_text(text, encoding="utf-8")
        writer.commit(lambda files: _manifest(checkpoint, files))
    return parity


def _single_pass(path: Path) -> Checkpoint[OpenVlaOft]:
    """Read the checkpoint; only a family whose text rows end in one pass over all views can score them."""
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.model, OpenVlaOft):
        raise ExportError(
            f"expected a single-pass family (openvla_oft) to score views with, found {checkpoint.family!r}."
        )
    return cast("Checkpoint[OpenVlaOft]", checkpoint)


def _compare(
    graph: Path, step: ScoringStep, inputs: Sequence[tuple[Tensor, ...]], source: str
) -> ScoreParity:
    session = open_graph(graph)
    ours, theirs = [], []
    for frame in inputs:
        with torch.inference_mode():
            ours.append(step(*frame).numpy()[0])
        feeds = {name: tensor.numpy() for name, tensor in zip(INPUTS, frame, strict=True)}
        theirs.append(session.run(None, feeds)[0][0])
    error = float(np.abs(np.stack(ours) - np.stack(theirs)).max())
    if not error <= TOLERANCE:
        raise ReceiptError(
            f"view scorer: ONNX Runtime and PyTorch disagree: expected an error <= {TOLERANCE}, found {error:.3g}."
        )
    orders = [tuple(np.argsort(-scores).tolist()) for scores in theirs]
    return ScoreParity(
        frames=len(inputs),
        source=source,
        max_error=error,
        scores=[round(float(score), 6) for score in np.mean(theirs, axis=0)],
        distinct=sum(order != orders[0] for order in orders),
    )


def _manifest(checkpoint: Checkpoint[OpenVlaOft], files: Mapping[str, FileSpec]) -> Manifest:
    embodiment, config = checkpoint.embodiment, checkpoint.model.config
    side, grid, positions = config.image_size, config.grid, sum(config.segments.values())
    image_dims = ("batch", "views", "height", "width", "channels")
    host, text = TensorRole.HOST, config.max_text_tokens
    tensors = (
        TensorSpec("images", "uint8", (1, grid.views, side, side, 3), image_dims, "1", host),
        TensorSpec("token_ids", "int64", (1, text), ("batch", "text"), "token", host),
        TensorSpec("attention_mask", "bool", (1, positions), ("batch", "positions"), "1", host),
        TensorSpec("position_ids", "int64", (1, positions), ("batch", "positions"), "index", host),
        TensorSpec(SCORED_VIEWS, "float32", (1, grid.views), ("batch", "views"), "1", TensorRole.RESULT),
    )
    stage = StageSpec("score", GRAPH, {name: name for name in INPUTS}, {SCORED_VIEWS: SCORED_VIEWS})
    return Manifest(
        format_version=BUNDLE_FORMAT_VERSION,
        kind=BundleKind.SCORER,
        name=f"{embodiment.name} view scorer",
        family=checkpoint.family,
        license=embodiment.license,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        producer=producers(),
        views=tuple(ViewSpec(name, side, side) for name in embodiment.views),
        proprio=VectorSpec((), ()),
        instruction=checkpoint.instruction,
        sequence=tuple(SegmentSpec(name, tokens) for name, tokens in config.segments.items()),
        tensors=tensors,
        carry=(),
        profiles=(ProfileSpec(FULL_PROFILE, grid.tokens, 1.0, (stage,)),),
        policy=PolicySpec("keep_all", {}, 0, 0),
        grid=GridSpec(grid.views, grid.rows, grid.columns),
        files=dict(files),
    )
