"""The engine contract, kept by OpenVINO."""

from __future__ import annotations

import gc
import weakref
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the extra `openvino` is not installed")

from saccade.proto.errors import EngineError, InputError
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.openvino import OpenVinoBackend
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from tests.contracts.engine import EngineContract
from tests.tiny_bundle import write_tiny_bundle


class TestOpenVinoBackend(EngineContract):
    def make_backend(self) -> Backend:
        return OpenVinoBackend(threads=1)


@pytest.mark.parametrize("threads", [-1, 9999])
def test_a_number_of_threads_that_is_of_no_use_is_refused(threads: int) -> None:
    with pytest.raises(InputError, match=rf"threads: expected 0 to \d+.*, found {threads}"):
        OpenVinoBackend(threads=threads)


def test_one_copy_of_the_weights_for_all_profiles_is_refused() -> None:
    with pytest.raises(EngineError, match="found --lean: leave it out, or take --engine ort-cpu"):
        OpenVinoBackend(prepack=False)


def test_it_gives_the_bundled_model_the_actions_and_tokens_that_onnx_runtime_gives() -> None:
    """Steps of every profile in turn, each engine with its own carry."""
    bundle = Bundle.open(Path(str(files("saccade.sim") / "saccade_mini" / "bundle")))
    with OpenVinoBackend(threads=1) as backend, OrtBackend(threads=1) as other:
        programs = [ProgramExecutor(bundle, each) for each in (backend, other)]
        rng = np.random.default_rng(0)
        for profile in [profile.name for profile in bundle.manifest.profiles] * 2:
            pictures = rng.integers(0, 256, programs[0].inputs["images"].shape, np.uint8)
            found = []
            for program in programs:
                program.inputs["images"][...] = pictures
                program.inputs["attention_mask"][...] = True
                outputs = program.step(profile, {})
                found.append((outputs["actions"].copy(), outputs["kept"].copy()))
                program.commit()
            np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-4)
            np.testing.assert_array_equal(found[0][1], found[1][1])


def test_what_runs_a_graph_keeps_its_weights(tmp_path: Path) -> None:
    """OpenVINO reads some of them where they are, long after the bundle and the engine are gone."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny"))
    contents, gone = dict(bundle.files), list[str]()
    with OpenVinoBackend(threads=1) as backend:
        (engine,) = backend.load(["graphs/step.full.onnx"], contents).values()
        inputs, outputs = (
            {port.name: backend.allocate(port.dtype, port.shape) for port in ports}
            for ports in (engine.inputs, engine.outputs)
        )
        run = engine.bind(inputs, outputs)
        for name in ("graphs/weights.bin", "graphs/step.keep50.onnx"):
            weakref.finalize(contents[name].base, gone.append, name)
        del bundle, contents, engine
        gc.collect()
        assert gone == ["graphs/step.keep50.onnx"], "what nobody needs went, the weights did not"
        run()
