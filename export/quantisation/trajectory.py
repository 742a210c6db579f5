"""A bundle's control steps on recorded frames, in ONNX Runtime: as they were exported, and as a lowering has them.

Every step of a lowering starts from the carry that the canonical graphs left, so that each is judged alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from saccade.export.bundle.graph_session import open_graph
from saccade.proto.errors import ExportError
from saccade.proto.manifest import Manifest, ProfileSpec
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.tensor_names import ACTIONS, KEPT
from saccade.proto.tensor_spec import TensorRole

Tensors = dict[str, NDArray[Any]]
Graphs = Mapping[str, ir.Model]
"""Graphs by their path in the bundle."""


@dataclass(frozen=True)
class StepRecord:
    """One control step of the canonical graphs.

    Args:
        inputs: Every tensor that the step read, the carry among them, by name.
        actions: Normalised actions, float32 ``(chunk, action_dim)``.
        kept: Kept tokens, int64 ``(keep,)``.
    """

    inputs: Tensors
    actions: NDArray[np.float32]
    kept: NDArray[np.int64]


class ProfileRunner:
    """Runs the stages of one profile.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        profile: Profile whose stages run.
        graphs: Graphs that run in the place of the bundle's own; they may point to its weights.
    """

    def __init__(
        self, bundle: Path, manifest: Manifest, profile: ProfileSpec, graphs: Graphs | None = None
    ) -> None:
        self._stages = profile.stages
        self._carry = {spec.name for spec in manifest.tensors if spec.role is TensorRole.CARRY}
        given = {name: serialised(model) for name, model in (graphs or {}).items()}
        self._sessions = {
            stage.graph: open_graph(bundle / stage.graph, given.get(stage.graph)) for stage in profile.stages
        }

    def run(self, inputs: Tensors) -> Tensors:
        """Return every tensor that one control step writes, by name.

        Args:
            inputs: Host, task and carry tensors by name.
        """
        known, written = dict(inputs), {}
        for stage in self._stages:
            session = self._sessions[stage.graph]
            ports = list(stage.outputs)
            found = session.run(ports, {port: known[name] for port, name in stage.inputs.items()})
            for port, values in zip(ports, found, strict=True):
                name = stage.outputs[port]
                written[name] = values
                if name not in self._carry:
                    known[name] = values
        return written


def trajectories(
    bundle: Path, manifest: Manifest, frames: Sequence[Tensors], profiles: Sequence[str]
) -> dict[str, list[StepRecord]]:
    """Run the canonical graphs on consecutive frames; warm-up steps run ``full`` and are left out elsewhere.

    Args:
        bundle: Folder of the bundle.
        manifest: Its manifest.
        frames: Host tensors of each frame, by name.
        profiles: Names of the profiles that are run.

    Raises:
        ExportError: There are no more frames than warm-up steps.
    """
    warm_up = manifest.policy.warmup_steps
    if len(frames) <= warm_up:
        raise ExportError(
            f"expected more frames than the policy's {warm_up} warm-up steps, found {len(frames)}: record more."
        )
    full = ProfileRunner(bundle, manifest, manifest.profile(FULL_PROFILE))
    return {
        name: _trajectory(
            manifest,
            frames,
            full,
            full if name == FULL_PROFILE else ProfileRunner(bundle, manifest, manifest.profile(name)),
        )
        for name in profiles
    }


def serialised(model: ir.Model) -> bytes:
    """Return the bytes of a graph; weights in files stay there."""
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _trajectory(
    manifest: Manifest, frames: Sequence[Tensors], full: ProfileRunner, runner: ProfileRunner
) -> list[StepRecord]:
    state = {
        spec.name: np.ones(spec.shape, spec.dtype)
        for spec in manifest.tensors
        if spec.role is TensorRole.TASK
    }
    for carry in manifest.carry:
        spec = manifest.tensor(carry.name)
        state[carry.name] = np.full(spec.shape, carry.initial, spec.dtype)
    records = []
    for index, frame in enumerate(frames):
        is_full = index < manifest.policy.warmup_steps
        inputs = {**frame, **state}
        written = (full if is_full else runner).run(inputs)
        state |= {carry.name: written[carry.name] for carry in manifest.carry if carry.name in written}
        if runner is full or not is_full:
            records.append(StepRecord(inputs, written[ACTIONS][0], _kept(written, manifest)))
    return records


def _kept(written: Tensors, manifest: Manifest) -> NDArray[np.int64]:
    """Return what a step kept; everything where the graph does not tell."""
    if KEPT in written:
        return written[KEPT][0].astype(np.int64)
    return np.arange(manifest.grid.tokens)
