"""What a machine tells of its state, from files laid out as Linux lays them out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from saccade.runtime.bench.machine import MachineState, OtherWork, machine_state


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_a_jetson_tells_clocks_heat_and_mode(tmp_path: Path) -> None:
    cpu, zone = "sys/devices/system/cpu/cpu{}/cpufreq/", "sys/class/thermal/thermal_zone{}/"
    root = write(
        tmp_path,
        {
            "proc/loadavg": "0.52 0.40 0.30 1/300 999\n",
            cpu.format(0) + "scaling_cur_freq": "1984000\n",
            cpu.format(1) + "scaling_cur_freq": "729600\n",
            cpu.format(0) + "scaling_governor": "schedutil\n",
            zone.format(0) + "type": "cpu-thermal\n",
            zone.format(0) + "temp": "48250\n",
            zone.format(1) + "type": "gpu-thermal\n",
            zone.format(1) + "temp": "-256000\n",
            "var/lib/nvpmodel/status": "pmode:0002\n",
        },
    )
    assert machine_state(root) == MachineState(
        0.52, (1984.0, 729.6), {"cpu-thermal": 48.25, "gpu-thermal": -256.0}, "schedutil", "pmode:0002"
    )


def test_a_machine_without_clocks_in_files_tells_those_of_its_processor(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"proc/cpuinfo": "model name\t: Some\ncpu MHz\t\t: 2000.000\ncpu MHz\t\t: 2100.5\n"}
    )
    assert machine_state(root) == MachineState(None, (2000.0, 2100.5), {}, None, None)


def test_where_nothing_is_told_other_work_is_not_known(tmp_path: Path) -> None:
    with OtherWork(tmp_path) as other:
        pass
    assert other.cores is None


def test_another_program_is_other_work_and_our_own_is_not() -> None:
    """Two equal programs, one of them ours: a child that was waited for counts as ours."""
    work = "import hashlib\nfor _ in range(40): hashlib.sha256(bytes(2**23)).digest()"
    beside = subprocess.Popen([sys.executable, "-c", work])
    with OtherWork() as busy:
        for _ in range(40):
            hashlib.sha256(bytes(2**23)).digest()
        while beside.poll() is None:  # looked at, its time becomes ours: so the block ends with it
            break
    assert busy.cores is not None and busy.cores > 0
    beside.wait()
