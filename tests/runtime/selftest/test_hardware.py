"""What machine it is, from files laid out as Linux and JetPack lay them out, and from a tool that answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.runtime.selftest.hardware import hardware, power_mode_name, state

MODES = "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE 1\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
            "proc/meminfo": "MemTotal:       32000000 kB\nMemFree: 1 kB\n",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1\nmore\n",
            "etc/nvpmodel.conf": MODES,
            "var/lib/nvpmodel/status": "pmode:0002\n",
            "sys/class/devfreq/17000000.gpu/cur_freq": "930750000\n",
            "sys/class/devfreq/154c0000.nvenc/cur_freq": "115200000\n",
        },
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = hardware(root, driver="libof_no_driver.so")
    assert found["board"] == "NVIDIA Jetson AGX Orin Developer Kit"
    assert found["l4t"] == "R36 (release), REVISION: 4.3, GCID: 1" and found["memory_bytes"] == 32768000000
    assert "there is no CUDA driver" in found["gpu"]["none"] and found["nvidia_smi"] is None
    now = state(root)
    assert (now["power_mode"], now["power_mode_name"]) == ("pmode:0002", "MODE_30W")
    assert now["gpu_clocks_mhz"] == {"17000000.gpu": 930.75}


def test_a_card_whose_tool_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "1980 MHz, 2619 MHz, 41, 120.5 W, P0, 3 %"
    tool = write(tmp_path, {"bin/nvidia-smi": f'#!/bin/sh\necho "{says}"\n'})
    (tool / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert state(tmp_path)["nvidia_smi"] == {
        "clocks.sm": "1980 MHz",
        "clocks.memory": "2619 MHz",
        "temperature.gpu": "41",
        "power.draw": "120.5 W",
        "pstate": "P0",
        "utilization.gpu": "3 %",
    }
    (tool / "bin/nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert state(tmp_path)["nvidia_smi"] is None


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = hardware(tmp_path, driver="libof_no_driver.so")
    assert [found[name] for name in ("board", "l4t", "memory_bytes", "nvidia_smi")] == [None] * 4
    assert power_mode_name(None, MODES) is None and power_mode_name("pmode:0009", MODES) is None
