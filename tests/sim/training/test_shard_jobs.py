"""Shards are made once, by as many processes as are asked for, and are the same whoever makes them."""

from __future__ import annotations

from functools import partial

import numpy as np

from saccade.sim.training.shard_jobs import HELD_OUT_SHARD, record_shard, spread
from saccade.sim.training.shards import Shards


def write_number(folder, number):
    (folder / str(number)).write_text("made")


def test_several_processes_share_the_work(tmp_path):
    spread(partial(write_number, tmp_path), range(3), 2, "writing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_shard_is_made_once_and_is_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr("saccade.sim.training.shard_jobs.FRAMES_PER_SHARD", 2)
    for folder in ("one", "other"):
        spread(partial(record_shard, tmp_path / folder, "mini-2"), [HELD_OUT_SHARD, 3], 1, "recording")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["demo_0003", "held_out"]
    one, other = (Shards([tmp_path / folder / "demo_0003"]) for folder in ("one", "other"))
    np.testing.assert_array_equal(one.whole("images"), other.whole("images"))
    assert one.whole("images").shape == (2, 2, 144, 144, 3)
    (tmp_path / "one" / "demo_0003" / "images.npy").unlink()
    record_shard(tmp_path / "one", "mini-2", 3)
    assert not (tmp_path / "one" / "demo_0003" / "images.npy").exists(), "what is there is left alone"
