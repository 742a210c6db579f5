"""The manifest of a bundle that scores views."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from saccade.export.bundle.manifest_parts import producers
from saccade.export.families.base import SinglePassFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.proto.bundle_kind import BundleKind
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
from saccade.proto.tensor_names import ATTENTION_MASK, IMAGES, POSITION_IDS, SCORED_VIEWS, TOKEN_IDS
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.proto.versions import BUNDLE_FORMAT_VERSION

GRAPH = "graphs/score.onnx"
INPUTS = (IMAGES, TOKEN_IDS, ATTENTION_MASK, POSITION_IDS)


def build_scorer_manifest(
    checkpoint: Checkpoint[SinglePassFamily], files: Mapping[str, FileSpec], name: str | None = None
) -> Manifest:
    """Assemble the manifest; its own rules are checked as it is built.

    Args:
        checkpoint: Checkpoint that was exported.
        files: Size and hash of every file of the bundle, by path.
        name: Name of the bundle; None = the embodiment's, and what it is.
    """
    embodiment, model = checkpoint.embodiment, checkpoint.model
    size, grid, positions = model.image_size, model.grid, sum(model.segments.values())
    image_dims = ("batch", "views", "height", "width", "channels")
    host, text = TensorRole.HOST, checkpoint.instruction.max_tokens
    tensors = (
        TensorSpec(IMAGES, "uint8", (1, grid.views, *size, 3), image_dims, "1", host),
        TensorSpec(TOKEN_IDS, "int64", (1, text), ("batch", "text"), "token", host),
        TensorSpec(ATTENTION_MASK, "bool", (1, positions), ("batch", "positions"), "1", host),
        TensorSpec(POSITION_IDS, "int64", (1, positions), ("batch", "positions"), "index", host),
        TensorSpec(SCORED_VIEWS, "float32", (1, grid.views), ("batch", "views"), "1", TensorRole.RESULT),
    )
    stage = StageSpec("score", GRAPH, {name: name for name in INPUTS}, {SCORED_VIEWS: SCORED_VIEWS})
    return Manifest(
        format_version=BUNDLE_FORMAT_VERSION,
        kind=BundleKind.SCORER,
        name=name or f"{embodiment.name} view scorer",
        family=checkpoint.family,
        license=embodiment.license,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        producer=producers(),
        views=tuple(ViewSpec(name, *size) for name in embodiment.views),
        proprio=VectorSpec((), ()),
        instruction=checkpoint.instruction,
        sequence=tuple(SegmentSpec(name, tokens) for name, tokens in model.segments.items()),
        tensors=tensors,
        carry=(),
        profiles=(ProfileSpec(FULL_PROFILE, grid.tokens, 1.0, (stage,)),),
        policy=PolicySpec("keep_all", {}, 0, 0),
        grid=GridSpec(grid.views, grid.rows, grid.columns),
        files=dict(files),
    )
