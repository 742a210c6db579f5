from pathlib import Path

import pytest

from saccade.proto.errors import EngineError
from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.ort import OrtBackend
from tests.contracts.engine import EngineContract, buffers, fill, write_graph


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
            runs.append(each.load(write_graph(tmp_path)).bind(inputs, outputs))
        backend.interrupt()
        with pytest.raises(EngineError, match="terminate"):
            runs[0]()
        runs[1]()
        backend.resume()
        runs[0]()
