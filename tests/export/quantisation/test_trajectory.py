import numpy as np
import onnx_ir as ir
import pytest

from saccade.export.quantisation.trajectory import ProfileRunner, trajectories
from saccade.proto.errors import ExportError
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from tests.export.quantisation.conftest import Measured


def test_steps_are_those_of_the_runtime(measured: Measured) -> None:
    """The robot's own executor, on the same frames, carry and all."""
    warm_up = measured.manifest.policy.warmup_steps
    with OrtBackend(threads=1) as backend:
        program = ProgramExecutor(Bundle.open(measured.bundle), backend)
        for index, frame in enumerate(measured.frames):
            for name, values in program.inputs.items():
                values[...] = frame[name]
            found = program.step("full" if index < warm_up else "keep25", {})
            if index >= warm_up:
                record = measured.records["keep25"][index - warm_up]
                np.testing.assert_allclose(found["actions"][0], record.actions, atol=1e-5)
                np.testing.assert_array_equal(found["kept"][0], record.kept)
            program.commit()
    assert len(measured.records["full"]) == len(measured.frames)


def test_a_graph_may_run_in_the_place_of_the_bundles_own(measured: Measured) -> None:
    profile = measured.manifest.profile("full")
    (stage,) = profile.stages
    model = ir.load(measured.bundle / stage.graph)
    (actions,) = [value for value in model.graph.outputs if value.name == "actions"]
    double = ir.node("Add", [actions, actions])
    model.graph.append(double)
    actions.name, double.outputs[0].name = "once", "actions"
    double.outputs[0].type, double.outputs[0].shape = actions.type, actions.shape
    model.graph.outputs[list(model.graph.outputs).index(actions)] = double.outputs[0]
    record = measured.records["full"][0]
    found = ProfileRunner(measured.bundle, measured.manifest, profile, {stage.graph: model}).run(
        record.inputs
    )
    np.testing.assert_allclose(found["actions"][0], 2 * record.actions, rtol=1e-5)


def test_too_few_frames_for_the_warm_up_are_said(measured: Measured) -> None:
    warm_up = measured.manifest.policy.warmup_steps
    with pytest.raises(
        ExportError, match=f"more frames than the policy's {warm_up} warm-up steps, found {warm_up}"
    ):
        trajectories(measured.bundle, measured.manifest, measured.frames[:warm_up], ["full"])
