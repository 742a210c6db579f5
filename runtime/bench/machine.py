"""In what state the machine was while it was measured: load, clocks, heat, power mode, and what else ran on it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_ROOT = Path("/")
BUSY_CORES = 0.1
"""Other programs that take more than this of one core disturb a measurement."""


@dataclass(frozen=True)
class MachineState:
    """What a Linux machine tells of itself; None, or empty, where it does not tell.

    Args:
        load: Programs that ran or waited for a core, mean of the last minute.
        clocks_mhz: Clock of each processor, MHz.
        temperatures_c: Hottest reading of each kind of sensor, degrees Celsius, by the sensor's name.
        governor: How clocks follow the load, e.g. ``schedutil``.
        power_mode: NVIDIA's power mode, e.g. ``MAXN``.
    """

    load: float | None
    clocks_mhz: tuple[float, ...]
    temperatures_c: dict[str, float]
    governor: str | None
    power_mode: str | None


def machine_state(root: Path = _ROOT) -> MachineState:
    """Read the state of the machine.

    Args:
        root: Where ``proc``, ``sys`` and ``var`` are mounted.
    """
    load = _text(root / "proc/loadavg")
    return MachineState(
        load=None if load is None else float(load.split()[0]),
        clocks_mhz=_clocks(root),
        temperatures_c=_temperatures(root),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        power_mode=_text(root / "var/lib/nvpmodel/status"),
    )


class OtherWork:
    """How many cores other programs took while a block ran; a context manager.

    Args:
        root: Where ``proc`` is mounted.

    Attributes:
        cores: Cores that other programs took, mean over the block; None where the machine does not tell.
    """

    cores: float | None = None

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root

    def __enter__(self) -> OtherWork:
        self._started = (time.monotonic(), self._all_s(), _own_s())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        began, everything, own = self._started
        after, elapsed = self._all_s(), time.monotonic() - began
        if everything is not None and after is not None and elapsed > 0:
            self.cores = max(0.0, (after - everything) - (_own_s() - own)) / elapsed

    def _all_s(self) -> float | None:
        """Return the seconds of processor time that anything on the machine ever took."""
        stat = _text(self._root / "proc/stat")
        if stat is None:
            return None
        user, nice, system, _idle, _wait, interrupts, soft, *_ = map(int, stat.split("\n", 1)[0].split()[1:])
        return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _clocks(root: Path) -> tuple[float, ...]:
    files = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if files:
        return tuple(int(khz) / 1e3 for khz in map(_text, files) if khz and khz.isdecimal())
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    return tuple(float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz"))


def _temperatures(root: Path) -> dict[str, float]:
    hottest: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name, found = _text(zone / "type"), _text(zone / "temp")
        if name and found and found.lstrip("-").isdecimal():
            hottest[name] = max(hottest.get(name, float("-inf")), int(found) / 1e3)
    return hottest


def _text(file: Path) -> str | None:
    """Return a small file's text, None if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
