"""The whole of training, tiny: record, see, act, cut off, resume, finish."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from saccade.export.families.registry import load_checkpoint
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError, SimulatorError
from saccade.runtime.commands.main import main
from saccade.sim.seeds import FIRST_TRAINING_SEED
from saccade.sim.training import loop
from saccade.sim.training.cli import train
from saccade.sim.training.demonstrations import record_frames, save_frames
from saccade.sim.training.finish import begin_cloning, read_receipt
from saccade.sim.training.loop import STATE, LoopConfig, learning_rate
from saccade.sim.training.mini import MINI, MINIS, begin_run
from saccade.sim.training.shards import Shards
from saccade.sim.training.stages import HELD_OUT, CloningFactory, PerceptionFactory
from saccade.sim.training.statistics import measure_statistics, read_statistics, write_statistics


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with two tiny shards."""
    run = tmp_path_factory.mktemp("run")
    begin_run(run, MINI.name)
    frames = list(islice(record_frames(FIRST_TRAINING_SEED, MINI.table), 96))
    save_frames(run / "data" / "demo_0000", frames[:80])
    save_frames(run / "data" / HELD_OUT, frames[80:])
    return run


def config(steps, **changes):
    return LoopConfig(
        steps=steps,
        decay_steps=2,
        warmup_steps=1,
        batch=8,
        processes=1,
        validate_every=1,
        is_compiled=False,
        **changes,
    )


def weights(path):
    with safe_open(path / STATE, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith("module.")}  # noqa: SIM118


def test_rate_rises_holds_and_falls_to_zero():
    settings = LoopConfig(steps=100, decay_steps=20, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:81] == pytest.approx([1.0] * 72)
    assert rates[90] == pytest.approx(0.5)
    assert rates[100] == 0


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(run, tmp_path):
    build = PerceptionFactory(run / "data", MINI.name)
    whole, half = (replace(config(steps), decay_steps=1) for steps in (2, 1))
    loop.train(build, whole, tmp_path / "straight")
    loop.train(build, half, tmp_path / "cut")
    loop.train(build, whole, tmp_path / "cut")
    resumed = weights(tmp_path / "cut")
    for name, value in weights(tmp_path / "straight").items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


class FullDisk:
    """A stage that cannot be built, in whichever process."""

    def __call__(self, *_):
        raise OSError(28, "No space left on device")


def test_a_process_that_fails_is_one_error(tmp_path):
    with pytest.raises(SimulatorError, match=r"found one that failed: OSError: .* No space left on device"):
        loop.train(FullDisk(), replace(config(2), processes=2), tmp_path)


class Little(torch.nn.Linear):
    """As little as can be trained."""

    def forward(self, inputs):
        return super().forward(inputs).sum(), {}


class Endless:
    """A stage whose steps are next to nothing, one after the other."""

    def __init__(self):
        self.module = Little(1, 1)

    def __call__(self, *_):
        return self

    def batch(self, *_):
        return (torch.zeros(1, 1),)

    def validate(self, *_):
        return {}


def train_endlessly(folder):
    """Train in two processes, as `nohup saccade train ... &` does: signals from the keyboard are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = replace(config(10**9), processes=2, validate_every=10**9, save_every_s=0.1)
    loop.train(Endless(), settings, folder)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and Linux's signal at a parent's death")
def test_nothing_trains_on_when_its_parent_was_killed(tmp_path):
    parent = get_context("spawn").Process(target=train_endlessly, args=(tmp_path,))
    parent.start()
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")

    def workers():
        named = {int(pid): Path(f"/proc/{pid}/cmdline") for pid in children.read_text().split()}
        return [pid for pid, line in named.items() if "resource_tracker" not in line.read_text()]

    wait_until((tmp_path / STATE).exists)
    found = workers()
    assert len(found) == 2
    parent.kill()
    parent.join()
    try:
        wait_until(lambda: not any(is_running(pid) for pid in found))
    finally:
        for pid in filter(is_running, found):
            os.kill(pid, signal.SIGKILL)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, timeout_s=60.0):
    ending = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ending, "it never came to be"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def checkpoint(run):
    """What `see`, `act` and `finish` make of the run."""
    loop.train(PerceptionFactory(run / "data", MINI.name), config(3), run / "perception")
    begin_cloning(run, MINI.table, None)
    loop.train(CloningFactory(run, MINI.name), config(3), run / "cloning")
    arguments = ["finish", "--run", str(run), "--out", str(run / "checkpoint")]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    return run / "checkpoint"


def test_a_run_is_saved_by_the_clock_too(run, tmp_path, monkeypatch):
    """A step that is not validated is not lost: the third of four, where every second is validated."""
    saved = []
    real = loop.write_weights

    def save(tensors, path, metadata):
        saved.append(json.loads(metadata["clock"])["step"])
        real(tensors, path, metadata)

    monkeypatch.setattr(loop, "write_weights", save)
    settings = replace(config(4, save_every_s=0.0), validate_every=2)
    loop.train(PerceptionFactory(run / "data", MINI.name), settings, tmp_path)
    assert saved == [1, 2, 3, 4]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [2, 4]


def test_asking_again_for_what_is_done_changes_nothing(run, checkpoint):
    settled = (run / "perception" / "config.json").read_text()
    loop.train(PerceptionFactory(run / "data", MINI.name), config(2, learning_rate=1.0), run / "perception")
    assert (run / "perception" / "config.json").read_text() == settled


def test_the_tower_is_frozen_while_the_rest_learns(run, checkpoint):
    seen, cloned = weights(run / "perception"), weights(run / "cloning")
    for name, value in seen.items():
        if "backbone" in name:
            copy = cloned[name.replace("module.backbone", "module.model.vision_backbone")]
            torch.testing.assert_close(copy, value, rtol=0, atol=0)


def test_a_checkpoint_holds_the_weights_and_how_they_were_made(run, checkpoint):
    receipt = json.loads((checkpoint / "training.json").read_text())
    assert receipt["cloning"]["config"]["seed"] == 0
    assert [line["step"] for line in receipt["cloning"]["log"]] == [1, 2, 3]
    assert receipt["data"]["shards"] == ["demo_0000"]
    model = load_checkpoint(checkpoint).model
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    stored = weights(run / "cloning")[f"module.model.{name}"].half().float()
    torch.testing.assert_close(model.get_parameter(name).data, stored, rtol=0, atol=0)


def test_a_run_may_go_on_from_a_checkpoint(run, checkpoint, tmp_path):
    shutil.copytree(run / "data", tmp_path / "data")
    begin_cloning(tmp_path, MINI.table, checkpoint)
    factory = CloningFactory(tmp_path, MINI.name, checkpoint)
    further = factory(seed=1).module.state_dict()
    for key, value in weights(run / "cloning").items():
        if ".model." in key:  # the read-outs start afresh
            torch.testing.assert_close(
                further[key.removeprefix("module.")], value.half().float(), rtol=0, atol=0
            )
    begin_cloning(tmp_path, MINI.table, checkpoint)  # resuming: nothing to settle
    with pytest.raises(CheckpointError, match="found no checkpoint: begin a new --run"):
        begin_cloning(tmp_path, MINI.table, None)
    loop.train(factory, config(1), tmp_path / "cloning")
    receipt = read_receipt(tmp_path)
    assert receipt["before"] == json.loads((checkpoint / "training.json").read_text())
    assert "perception" not in receipt
    statistics = (checkpoint / "statistics.json").read_text()
    assert (tmp_path / "cloning" / "statistics.json").read_text() == statistics


def test_corrections_are_frames_that_the_model_saw(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("saccade.sim.training.shard_jobs.FRAMES_PER_SHARD", 5)
    arguments = [
        "correct", "--run", str(tmp_path), "--shards", "1", "--model", MINI.name, "--start", str(checkpoint)
    ]  # fmt: skip
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    (shard,) = (tmp_path / "data").iterdir()
    frames = Shards([shard])
    assert len(frames) == 5
    moved = np.abs(np.diff(frames.whole("proprio")[:, :3], axis=0)).max(-1)
    assert (moved > 0).all(), "an untrained arm moves, if not well"


def test_success_so_far_is_shown_also_as_json(run, checkpoint, monkeypatch):
    only = replace(MINI, table=replace(MINI.table, templates=("reach",)))
    monkeypatch.setitem(MINIS, MINI.name, only)
    found = CliRunner().invoke(main, ["train", "check", "--run", str(run), "--episodes", "1", "--json"])
    assert found.exit_code == 0, found.output
    shown = json.loads(found.stdout)
    assert shown["episodes"] == 1 and set(shown["success"]) == {"reach"}
    assert "reach: " in found.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "command"),
    [
        (["see"], "data/demo_*", "record"),
        (["act"], "data/demo_*", "record"),
        (["correct"], "cloning/state.safetensors", "act"),
        (["check"], "cloning/state.safetensors", "act"),
        (["finish", "--out", "made/checkpoint"], "cloning/state.safetensors", "act"),
    ],
)
def test_a_step_before_its_time_names_the_one_to_run_first(
    arguments, missing, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["train", *arguments, "--run", "begun"])
    assert found.exit_code == 1 and found.stderr.endswith("first. [checkpoint]\n")
    assert f"expected {missing} in the run begun" in found.stderr
    assert f"type `saccade train {command} --run begun`" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_statistics_round_trip_and_leave_the_gripper_alone(run, tmp_path):
    statistics = measure_statistics(Shards([run / "data" / "demo_0000"]))
    write_statistics(statistics, tmp_path, MINI.table)
    assert read_statistics(CheckpointFolder(tmp_path), MINI.table).to_json("x") == statistics.to_json("x")
    actions = np.array([[0.01, -0.02, 0.0, 1.0], [0.02, 0.01, -0.005, 0.0]], np.float32)
    normalised = statistics.action.normalise(actions)
    np.testing.assert_array_equal(normalised[:, 3], actions[:, 3])
    np.testing.assert_allclose(statistics.action.unnormalise(normalised), actions, atol=1e-6)
