"""How late a program wakes, and what Linux tells of how deeply its processors sleep."""

from __future__ import annotations

from pathlib import Path

from saccade.runtime.waking import deepest_sleep, measure_waking, told_waking


def state(root: Path, number: int, name: str, latency: int, *, is_disabled: bool = False) -> None:
    folder = root / f"sys/devices/system/cpu/cpu0/cpuidle/state{number}"
    folder.mkdir(parents=True)
    for file, content in (("name", name), ("latency", latency), ("disable", int(is_disabled))):
        (folder / file).write_text(f"{content}\n")


def test_the_deepest_sleep_is_one_that_is_allowed(tmp_path: Path) -> None:
    assert deepest_sleep(tmp_path) is None
    state(tmp_path, 0, "WFI", 1)
    state(tmp_path, 1, "c7", 5000)
    state(tmp_path, 2, "off", 90000, is_disabled=True)
    assert deepest_sleep(tmp_path) == ("c7", 5000)
    assert "of which 5000 us to leave the idle state c7" in told_waking(tmp_path)


def test_nobody_is_woken_too_soon() -> None:
    found = measure_waking(rounds=5)
    assert 0 <= found.p50_us <= found.max_us
