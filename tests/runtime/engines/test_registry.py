"""Engines by name: what is missing is said, and nothing else is taken in its place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saccade.proto.errors import EngineError, InputError
from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.registry import (
    DEFAULT_ENGINE,
    ENGINES,
    PLAN_ENGINES,
    open_backend,
    plan_backend,
    why_not,
)
from tests.contracts.engine import EngineContract

ON_GPU = {name: why_not(name) for name in ("ort-cuda", "tensorrt", "tensorrt-rtx")}
OPENVINO = "saccade.runtime.engines.openvino"


def test_every_engine_of_this_machine_opens_under_its_name() -> None:
    assert why_not(DEFAULT_ENGINE) is None
    for name in (name for name in ENGINES if why_not(name) is None):
        with open_backend(name, threads=1) as backend:
            assert backend.name == name


if not all(ON_GPU.values()):

    class TestOnTheGpu(EngineContract):
        """The engines for a GPU that this machine has; without one there is nothing to collect, see below."""

        @pytest.fixture(autouse=True, params=[name for name, reason in ON_GPU.items() if reason is None])
        def _engine(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
            self._name = request.param
            self._more = (
                {"plans": tmp_path / "plans", "builds_plans": True} if self._name in PLAN_ENGINES else {}
            )

        def make_backend(self) -> Backend:
            return open_backend(self._name, **self._more)


def test_every_engine_for_a_gpu_was_tested_on_one() -> None:
    if missing := [f"{name}: {reason}" for name, reason in ON_GPU.items() if reason is not None]:
        pytest.skip("NOT RUN on a GPU: " + "; ".join(missing))


def test_a_folder_of_plans_is_refused_by_an_engine_without(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--plans with an engine of tensorrt, tensorrt-rtx, found ort-cpu"):
        open_backend("ort-cpu", plans=tmp_path)


def test_a_library_that_plans_need_is_said_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for ask in (plan_backend, open_backend):
        with pytest.raises(
            EngineError, match=r"saccade-vla\[tensorrt\]'; TensorRT itself comes with JetPack"
        ):
            ask("tensorrt")


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    for ask in (why_not, open_backend):
        with pytest.raises(
            InputError,
            match=f"expected an engine of {', '.join(ENGINES)}, found 'tpu'",
        ):
            ask("tpu")


def test_a_library_that_is_missing_is_said_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it was never installed
    with pytest.raises(
        EngineError,
        match=r"engine openvino, found that .* not installed: pip install 'saccade-vla\[openvino\]'",
    ):
        open_backend("openvino")


def test_a_library_that_does_not_load_is_said_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('libtbb.so.12: cannot open')\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino" or name == OPENVINO]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        EngineError, match=r"openvino to load, found: libtbb\.so\.12: cannot open\. Install it"
    ):
        open_backend("openvino")
