"""An engine against the reference: what agrees passes, what computes something else does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.proto.errors import InputError
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.base import Buffer, Engine, Run
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.parity.comparison import CPU_LIMITS, ProfileParity, compare
from saccade.runtime.parity.frames import Frames, random_frames
from saccade.runtime.program import ProgramExecutor


class SpoiledEngine:
    """Runs a graph, and then changes what it wrote."""

    def __init__(self, engine: Engine, change: Any) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine, self._change = engine, change

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        run = self._engine.bind(inputs, outputs)

        def spoiled() -> None:
            run()
            self._change({name: buffer.host for name, buffer in outputs.items()})

        return spoiled


class SpoiledBackend(OrtBackend):
    """ONNX Runtime, with a change of what its graphs write."""

    def __init__(self, change: Any) -> None:
        super().__init__(threads=1)
        self.change = change

    def load(self, graphs: Iterable[str], files: Mapping[str, NDArray[np.uint8]]) -> dict[str, Any]:
        return {
            name: SpoiledEngine(engine, self.change) for name, engine in super().load(graphs, files).items()
        }


@pytest.fixture
def bundle(tiny: Path) -> Bundle:
    return Bundle.open(tiny)


@pytest.fixture
def reference(bundle: Bundle) -> Iterator[ProgramExecutor]:
    with OrtBackend(threads=1) as backend:
        yield ProgramExecutor(bundle, backend)


def frames_of(program: ProgramExecutor, count: int = 5) -> Frames:
    return random_frames(program.manifest, program.statistics, count, "push the red cube")


def spoiled(bundle: Bundle, reference: ProgramExecutor, change: Any) -> list[ProfileParity]:
    with SpoiledBackend(change) as backend:
        program = ProgramExecutor(bundle, backend)
        return compare(reference, program, frames_of(reference), ["full", "keep50"])


def test_the_same_engine_agrees_with_itself(bundle: Bundle, reference: ProgramExecutor) -> None:
    found = spoiled(bundle, reference, lambda outputs: None)
    assert [(each.profile, each.frames, each.same_kept) for each in found] == [
        ("full", 4, 4),
        ("keep50", 4, 4),
    ], "the first frame is the policy's warm-up"
    assert all(each.breaches(CPU_LIMITS) == [] and each.max_error == 0 for each in found)
    assert list(found[0].max_error_physical) == ["dx [m]", "gripper [1]"]


def test_an_error_is_told_in_physical_units(bundle: Bundle, reference: ProgramExecutor) -> None:
    def shift(outputs: dict[str, NDArray[Any]]) -> None:
        outputs["actions"][..., 0] += 0.5

    full, _ = spoiled(bundle, reference, shift)
    assert full.max_error == pytest.approx(0.5, abs=1e-5)
    assert full.max_error_physical["dx [m]"] == pytest.approx(0.01, abs=1e-6), "half of 0.02 m"
    assert full.max_error_physical["gripper [1]"] == 0
    assert full.breaches(CPU_LIMITS) == [
        "full: expected an error of an action, in shares of half its range, <= 0.001, found 0.5"
    ]


def test_what_is_no_number_never_passes(bundle: Bundle, reference: ProgramExecutor) -> None:
    full, _ = spoiled(bundle, reference, lambda outputs: outputs["actions"].fill(np.nan))
    assert "found nan" in full.breaches(CPU_LIMITS)[0]


def test_other_tokens_are_told_apart_from_errors(bundle: Bundle, reference: ProgramExecutor) -> None:
    def other(outputs: dict[str, NDArray[Any]]) -> None:
        if outputs["kept"].shape[1] < 8:
            outputs["kept"][...] = [[0, 1, 2, 3]]
            outputs["actions"][...] += 0.1

    full, half = spoiled(bundle, reference, other)
    assert full.same_kept == 4 and half.same_kept < 4 and half.overlap_min < 1
    assert half.max_error_otherwise == pytest.approx(0.1, abs=1e-5)
    assert any("share of common tokens" in breach for breach in half.breaches(CPU_LIMITS))


def test_each_step_is_judged_alone(bundle: Bundle, reference: ProgramExecutor) -> None:
    """A wrong carry shows as such, and does not spoil the next step's tokens."""

    def drift(outputs: dict[str, NDArray[Any]]) -> None:
        outputs["carry.h.next"][...] = -1 - np.arange(8)

    for each in spoiled(bundle, reference, drift):
        assert each.same_kept == 4 and each.carry_max_error > 1 and each.max_error == 0


def test_frames_of_the_warm_up_alone_are_too_few(reference: ProgramExecutor) -> None:
    with pytest.raises(InputError, match="expected more than 1 frames"):
        compare(reference, reference, frames_of(reference, 1), ["full"])
