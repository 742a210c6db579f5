"""The README is short, its links lead somewhere, and its client drives the daemon as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from saccade.runtime.daemon import Daemon, DaemonConfig

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MINI = ROOT / "sim/saccade_mini/bundle"
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
ROBOT = """
import numpy as np
scene_rgb = wrist_rgb = np.zeros((144, 144, 3), np.uint8)
proprio = np.zeros(4, np.float32)
"""
FOLDERS = ("", "benchmarks", "export", "export/families", "policies", "proto", "runtime", "sim", "tests")


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_of_a_readme_lead_somewhere(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", readme.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (readme.parent / target).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/serve.md"])
def test_the_control_loop_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    loop = CODE.findall((ROOT / page).read_text(encoding="utf-8"))[0]
    with Daemon(DaemonConfig(MINI, bind="127.0.0.1:0", max_age_ns=0)) as daemon:
        script = tmp_path / "loop.py"
        assert loop.count("127.0.0.1:7447") == 1
        script.write_text(
            ROBOT + loop.replace("127.0.0.1:7447", daemon.address) + "print(chunk.actions.shape)\n"
        )
        found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("(8, 4)\n", "")
