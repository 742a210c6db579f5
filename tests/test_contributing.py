"""The worked example in CONTRIBUTING.md runs as it stands, as a policy of a package that is not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

METADATA = "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n"


def test_the_example_policy_passes_its_tests(tmp_path: Path) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    policy, test = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    (entry_point,) = re.findall(
        r"```toml\n\[project.entry-points.\"(.*?)\"\]\n(.*?)\n```", guide, flags=re.DOTALL
    )
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "text_top_k.py").write_text(policy)
    (tmp_path / "test_text_top_k.py").write_text(test)
    installed = tmp_path / "my_package-1.0.dist-info"  # what pip would write
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA)
    group, line = entry_point
    (installed / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", "--import-mode=importlib"]
    paths = ["-o", f"pythonpath={tmp_path} {ROOT}", "-p", "no:cacheprovider", str(tmp_path)]
    found = subprocess.run([*command, *paths], cwd=tmp_path, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.fail(found.stdout[-3000:] + found.stderr[-1000:])
    assert "passed" in found.stdout
