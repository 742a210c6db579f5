import weakref
from pathlib import Path

import numpy as np
import pytest

from saccade.proto.errors import EngineError, InputError
from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.ort import OrtBackend
from tests.contracts.engine import EngineContract, buffers, fill, load, weights_files, write_graph


class TestOrtBackend(EngineContract):
    def make_backend(self) -> Backend:
        return OrtBackend(threads=1)


class TestLeanOrtBackend(EngineContract):
    def make_backend(self) -> Backend:
        return OrtBackend(threads=1, prepack=False)


def test_an_interrupted_backend_runs_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    """How a run that is under way ends is tested where prompts are: ``test_generate.py``."""
    with OrtBackend(threads=1) as backend, OrtBackend(threads=1) as other:
        runs = []
        for each in (backend, other):
            inputs, outputs = buffers(each)
            fill(inputs, 0)
            runs.append(load(each, write_graph(tmp_path)).bind(inputs, outputs))
        backend.interrupt()
        with pytest.raises(EngineError, match="terminate"):
            runs[0]()
        runs[1]()
        backend.resume()
        runs[0]()


@pytest.mark.parametrize("op_type", ["MatMul", "Gather"])
@pytest.mark.parametrize("prepack", [True, False])
def test_weights_are_in_memory_once(op_type: str, *, prepack: bool) -> None:
    """An engine with a copy of its own lets go of what it was given; a lean one holds that, and nothing else."""
    with OrtBackend(threads=1, prepack=prepack) as backend:
        files = weights_files(op_type, np.ones((64, 16), np.float32))
        given = weakref.ref(files["graphs/w.bin"])
        engines = backend.load(["graphs/a.onnx", "graphs/b.onnx"], files)
        del files
        assert (given() is None) == prepack
        del engines
        assert given() is None


@pytest.mark.parametrize("threads", [-1, 9999])
def test_a_number_of_threads_that_is_of_no_use_is_refused(threads: int) -> None:
    with pytest.raises(InputError, match=rf"threads: expected 0 to \d+.*, found {threads}"):
        OrtBackend(threads=threads)
