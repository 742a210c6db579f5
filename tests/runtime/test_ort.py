from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.ort import OrtBackend
from tests.contracts.engine import EngineContract


class TestOrtBackend(EngineContract):
    def make_backend(self) -> Backend:
        return OrtBackend(threads=1)


class TestLeanOrtBackend(EngineContract):
    def make_backend(self) -> Backend:
        return OrtBackend(threads=1, prepack=False)
