"""Engines by name: what is missing is said, and nothing else is taken in its place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saccade.proto.errors import EngineError, InputError
from saccade.runtime.engines.registry import DEFAULT_ENGINE, ENGINES, open_backend, why_not

OPENVINO = "saccade.runtime.engines.openvino"


def test_every_engine_of_this_machine_opens_under_its_name() -> None:
    assert why_not(DEFAULT_ENGINE) is None
    for name in (name for name in ENGINES if why_not(name) is None):
        with open_backend(name, threads=1) as backend:
            assert backend.name == name


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    for ask in (why_not, open_backend):
        with pytest.raises(InputError, match="expected an engine of ort-cpu, openvino, found 'tpu'"):
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
