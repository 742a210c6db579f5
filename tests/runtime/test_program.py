import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from saccade.proto.errors import BundleError, UnknownProfileError
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from tests.tiny_bundle import GRID, VIEWS, TinyOptions, tiny_observation, tiny_step, write_tiny_bundle

VALID_TEXT = 3
MINI = Path(__file__).parents[2] / "sim" / "saccade_mini" / "bundle"


def load(program: ProgramExecutor, seed: int) -> None:
    observation = tiny_observation(seed)
    for index, view in enumerate(VIEWS):
        program.inputs["images"][0, index] = observation.images[view]
    program.inputs["proprio"][0] = observation.proprio
    program.inputs["attention_mask"][...] = True
    program.inputs["attention_mask"][0, -1 - VALID_TEXT : -1] = False


def expected_kept(seeds: list[int], keeps: list[int]) -> list[list[int]]:
    carry = np.zeros(GRID.tokens, np.float32)
    kept = []
    for seed, keep in zip(seeds, keeps, strict=True):
        _, indices, carry = tiny_step(tiny_observation(seed), carry, keep, VALID_TEXT)
        kept.append(indices.tolist())
    return kept


def test_the_carry_reaches_the_next_step_whatever_the_profile(program: ProgramExecutor) -> None:
    seeds, profiles = list(range(6)), ["full", "keep50", "keep50", "full", "keep50", "keep50"]
    found = []
    for seed, profile in zip(seeds, profiles, strict=True):
        load(program, seed)
        found.append(program.step(profile, {})["kept"][0].tolist())
        program.commit()
    assert found == expected_kept(seeds, [8 if profile == "full" else 4 for profile in profiles])


def test_a_step_that_is_not_committed_leaves_no_trace(program: ProgramExecutor) -> None:
    load(program, 0)
    program.step("keep50", {})
    program.commit()
    for _ in range(3):
        load(program, 7)
        program.step("keep50", {})
    load(program, 1)
    assert program.step("keep50", {})["kept"][0].tolist() == expected_kept([0, 1], [4, 4])[1]


def damage_in_place(root: Path) -> None:
    """Do to each file what ``cp`` of another bundle does, or a full disk: it stays the same file."""
    for index, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size)) if index % 2 else file.truncate(0)


@pytest.mark.parametrize("prepack", [True, False])
def test_nothing_on_disk_reaches_what_was_opened(tmp_path: Path, *, prepack: bool) -> None:
    """Files change between verification and loading, and vanish before a step: the model runs as it was verified."""
    shutil.copytree(MINI, tmp_path / "mini")
    rows = []
    for root in (MINI, tmp_path / "mini"):
        bundle = Bundle.open(root)
        if root != MINI:
            damage_in_place(root)
        with OrtBackend(threads=1, prepack=prepack) as backend:
            program = ProgramExecutor(bundle, backend)
            if root != MINI:
                shutil.rmtree(root)
            program.set_instruction("push the red block")
            program.inputs["images"][...] = 100
            program.inputs["proprio"][...] = 0.1
            rows.append([program.step(name.name, {})["actions"].copy() for name in program.manifest.profiles])
    np.testing.assert_array_equal(*rows)


def test_reset_restores_the_carry(program: ProgramExecutor) -> None:
    for seed in range(3):
        load(program, seed)
        program.step("full", {})
        program.commit()
    program.reset()
    load(program, 5)
    assert program.step("keep50", {})["kept"][0].tolist() == expected_kept([5], [4])[0]


def test_every_stage_is_timed(program: ProgramExecutor) -> None:
    timings_ns: dict[str, int] = {}
    program.step("full", timings_ns)
    assert timings_ns.keys() == {"stage.step"}


def test_an_unknown_profile_is_named(program: ProgramExecutor) -> None:
    with pytest.raises(
        UnknownProfileError, match=r"expected a profile of this bundle \(full, keep50\), found 'keep1'"
    ):
        program.step("keep1", {})


def test_wiring_that_does_not_fit_the_graph_is_refused(tiny: Path) -> None:
    bundle = Bundle.open(tiny)
    first, *others = bundle.manifest.profiles
    stage = dataclasses.replace(first.stages[0], inputs={"images": "images"})
    manifest = dataclasses.replace(
        bundle.manifest, profiles=(dataclasses.replace(first, stages=(stage,)), *others)
    )
    with (
        OrtBackend() as backend,
        pytest.raises(BundleError, match=r"step\.full\.onnx: the manifest and the graph disagree"),
    ):
        ProgramExecutor(dataclasses.replace(bundle, manifest=manifest), backend)


def scored_kept(program: ProgramExecutor, seed: int, scores: tuple[float, ...]) -> bool:
    """Say whether a step from a fresh carry keeps what these view scores ask for, and no other ones."""
    load(program, seed)
    found = program.step("keep50", {})["kept"][0].tolist()
    start = np.zeros(GRID.tokens, np.float32)
    expected, plain = (
        tiny_step(tiny_observation(seed), start, 4, VALID_TEXT, each)[1].tolist() for each in (scores, (1, 1))
    )
    assert scores == (1, 1) or expected != plain, "the scores must matter"
    return found == expected


def test_task_tensors_are_ones_until_set_and_kept_until_the_next_reset(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "scored", options=TinyOptions(reads_scores=True)))
    with OrtBackend(threads=1) as backend:
        program = ProgramExecutor(bundle, backend)
        assert scored_kept(program, 0, (1, 1))
        program.warm_up()
        assert "task.view_scores" not in program.inputs
        program.set_task("task.view_scores", np.array([0, 3], np.float32))
        for seed in range(4):
            assert scored_kept(program, seed, (0, 3))
        program.reset()
        assert scored_kept(program, 5, (1, 1))
