"""What machine a self-test ran on: board, system software, GPU and driver; nothing that tells whose it is."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from saccade.proto.errors import EngineError
from saccade.proto.strict_json import to_json
from saccade.runtime.bench.machine import machine_state
from saccade.runtime.engines.cuda_driver import DRIVER_LIBRARY, find_gpu

_ROOT = Path("/")
_SMI_FIXED = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory", "power.limit")
_SMI_STATE = ("clocks.sm", "clocks.memory", "temperature.gpu", "power.draw", "pstate", "utilization.gpu")
_SMI_TIMEOUT_S = 20
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")


def hardware(root: Path = _ROOT, *, driver: str = DRIVER_LIBRARY) -> dict[str, Any]:
    """Return what stays the same while a self-test runs, as plain JSON values.

    Args:
        root: Where ``proc``, ``sys`` and ``etc`` are mounted.
        driver: Library of the CUDA driver, a file name or a path.

    Returns:
        ``board``, ``kernel``, ``l4t`` (NVIDIA's system software), ``memory_bytes``, ``gpu`` (name, compute capability,
        CUDA version of the driver; or why there is none) and ``nvidia_smi``; None where the machine does not tell.
    """
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    release = (_text(root / "etc/nv_tegra_release") or "").splitlines()
    return {
        "board": _text(root / "proc/device-tree/model"),
        "kernel": platform.release(),
        "l4t": release[0].lstrip("# ") if release else None,
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "gpu": _gpu(driver),
        "nvidia_smi": _nvidia_smi(_SMI_FIXED),
    }


def state(root: Path = _ROOT) -> dict[str, Any]:
    """Return what changes while a self-test runs, as plain JSON values.

    Args:
        root: Where ``proc``, ``sys``, ``etc`` and ``var`` are mounted.

    Returns:
        What :class:`saccade.runtime.bench.machine.MachineState` has, the name of the power mode, ``gpu_clocks_mhz`` of
        a Jetson by the device's name, and ``nvidia_smi``.
    """
    found: dict[str, Any] = to_json(machine_state(root))
    return found | {
        "power_mode_name": power_mode_name(found.get("power_mode"), _text(root / "etc/nvpmodel.conf") or ""),
        "gpu_clocks_mhz": _gpu_clocks(root),
        "nvidia_smi": _nvidia_smi(_SMI_STATE),
    }


def power_mode_name(status: str | None, configuration: str) -> str | None:
    """Return the name of a Jetson's power mode, e.g. ``MAXN``; None if it is not known.

    Args:
        status: What nvpmodel remembers, e.g. ``pmode:0002``.
        configuration: Text of ``nvpmodel.conf``.
    """
    number = re.fullmatch(r"pmode:(\d+)", status or "")
    modes = {int(mode): name for mode, name in _MODE.findall(configuration)}
    return modes.get(int(number[1])) if number else None


def _gpu(driver: str) -> dict[str, Any]:
    try:
        return dict(to_json(find_gpu(driver)))
    except EngineError as error:
        return {"none": error.message}


def _gpu_clocks(root: Path) -> dict[str, float]:
    """Return the clocks of integrated GPUs, MHz, by the device's name."""
    found = {}
    for folder in sorted(root.glob("sys/class/devfreq/*")):
        clock = _text(folder / "cur_freq")
        if re.search(r"gpu|ga10b|gb10b|gv11b", folder.name) and clock and clock.isdecimal():
            found[folder.name] = int(clock) / 1e6
    return found


def _nvidia_smi(fields: tuple[str, ...]) -> dict[str, str] | None:
    """Ask NVIDIA's tool about the first GPU; None where there is none, or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--id=0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(fields, (value.strip() for value in done.stdout.strip().split(",")), strict=False))


def _text(file: Path) -> str | None:
    """Return a small file's text, None if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip(" \0\n") or None
    except OSError:
        return None
