"""Plans on disk: found by all that they depend on, refused with the reason, whole or not there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.proto.errors import FileError, PlanError
from saccade.runtime.engines.plan_cache import PlanCache, PlanKey, default_plans_folder

KEY = PlanKey(
    "graphs/step.full.onnx", "ab" * 32, "tensorrt", "10.3.0", "SM87", "Orin", 12060, ("strongly_typed",)
)
PLAN = bytes(range(256)) * 64
WRITER = """
import sys
from pathlib import Path
from saccade.runtime.engines.plan_cache import PlanCache
from tests.runtime.engines.test_plan_cache import KEY
cache = PlanCache(Path(sys.argv[1]))
with cache.building():
    print("building", flush=True)
    while True:
        cache.write(KEY, memoryview(bytes(64 << 20)))
"""


def test_what_is_written_is_read_and_replaced(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "of" / "plans")
    assert not cache.has(KEY)
    for plan in (PLAN, PLAN[::-1]):
        with cache.building():
            cache.write(KEY, memoryview(plan))
            cache.write_timings(KEY, memoryview(b"measured"))
        assert cache.has(KEY) and cache.read(KEY).tobytes() == plan
    assert cache.read_timings(KEY) == b"measured"
    assert cache.read_timings(replace(KEY, gpu="Thor")) == b""
    assert cache.read_timings(replace(KEY, graph="other.onnx")) == b"measured"
    assert {path.suffix for path in cache.folder.iterdir()} == {"", ".plan", ".json", ".timings"}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sha256", "cd" * 32, "sha256 abab.*, not cdcd"),
        ("version", "10.7.0", "version 10.3.0, not 10.7.0"),
        ("compute_capability", "SM110", "compute_capability SM87, not SM110"),
        ("gpu", "Thor", "gpu Orin, not Thor"),
        ("driver", 13020, "driver 12060, not 13020"),
        ("flags", (), "flags strongly_typed, not none"),
        ("graph", "graphs/other.onnx", "found none"),
        ("engine", "tensorrt-rtx", "found none"),
    ],
)
def test_a_plan_of_anything_else_is_refused_with_the_difference(
    tmp_path: Path, field: str, value: object, reason: str
) -> None:
    cache = PlanCache(tmp_path)
    far = replace(KEY, gpu="another", driver=1, version="9", flags=("other",), sha256="ef" * 32)
    for key in (far, KEY):
        cache.write(key, memoryview(PLAN))
    with pytest.raises(PlanError, match=rf"(?s){reason}.*saccade build BUNDLE --engine") as refused:
        cache.read(replace(KEY, **{field: value}))
    assert refused.value.code == "engine.plan"
    assert cache.read(KEY).tobytes() == PLAN


@pytest.mark.parametrize("ending", ["", ".json"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\xff" + content[1:]])
def test_a_damaged_file_is_refused(tmp_path: Path, ending: str, damage: object) -> None:
    cache = PlanCache(tmp_path)
    cache.write(KEY, memoryview(PLAN))
    place = tmp_path / (KEY.file_name + ending)
    place.write_bytes(damage(place.read_bytes()))  # type: ignore[operator]
    with pytest.raises(PlanError, match=r"as it was built, found .*--rebuild"):
        cache.read(KEY)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"key": {}}', '{"key": 3}', json.dumps({"key": {"graph": 1}})]
)
def test_a_description_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    cache = PlanCache(tmp_path)
    cache.write(KEY, memoryview(PLAN))
    (tmp_path / f"{KEY.file_name}.json").write_text(content)
    with pytest.raises(PlanError, match="a description of no plan"):
        cache.read(KEY)
    with pytest.raises(PlanError, match="found none"):  # and it does not count as the nearest
        cache.read(replace(KEY, gpu="Thor"))


def test_a_plan_whose_file_is_gone_is_refused(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    cache.write(KEY, memoryview(PLAN))
    (tmp_path / KEY.file_name).unlink()
    with pytest.raises(PlanError, match="found no such file"):
        cache.read(KEY)


def test_a_killed_build_leaves_no_plan_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "building\n"
            with pytest.raises(PlanError, match="found another process"), PlanCache(tmp_path).building():
                pass
            while not any(path.suffix == ".partial" for path in tmp_path.iterdir()):
                assert writer.poll() is None
            os.kill(writer.pid, signal.SIGKILL)
        cache = PlanCache(tmp_path)
        if cache.has(KEY):
            assert cache.read(KEY).size == 64 << 20
        with cache.building():
            assert not any(path.suffix == ".partial" for path in tmp_path.iterdir())


def test_a_disk_that_takes_no_more_is_said_and_leaves_what_was_there(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    cache.write(KEY, memoryview(PLAN))
    with _files_of_at_most(1000), pytest.raises(FileError, match=r"ulimit -f") as refused:
        cache.write(KEY, memoryview(PLAN[::-1]))
    assert refused.value.code == "file"
    assert cache.read(KEY).tobytes() == PLAN
    assert not any(path.suffix == ".partial" for path in tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FileError, match="choose another place"),
        PlanCache(tmp_path / "file" / "plans").building(),
    ):
        pass


def test_plans_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_plans_folder() == PlanCache().folder == tmp_path / "saccade/plans"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, by the specification
    assert default_plans_folder() == Path.home() / ".cache/saccade/plans"


@contextmanager
def _files_of_at_most(count: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
