"""The worked examples in CONTRIBUTING.md run as they stand, as policy and family of a package that is not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

METADATA = "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n"


def test_the_example_policy_passes_its_tests(tmp_path: Path) -> None:
    run_example(tmp_path, "Add a token-selection policy", "text_top_k")


def test_the_example_family_passes_its_tests(tmp_path: Path) -> None:
    run_example(tmp_path, "Add a family", "acme_vla")


def run_example(tmp_path: Path, title: str, name: str) -> None:
    """Run a section's module and test as those of an installed package."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", guide, flags=re.DOTALL | re.MULTILINE)
    module, test = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    ((group, line),) = re.findall(
        r"```toml\n\[project.entry-points.\"(.*?)\"\]\n(.*?)\n```", section, flags=re.DOTALL
    )
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{name}.py").write_text(module)
    (tmp_path / f"test_{name}.py").write_text(test)
    installed = tmp_path / "my_package-1.0.dist-info"  # what pip would write
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA)
    (installed / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", "--import-mode=importlib"]
    paths = ["-o", f"pythonpath={tmp_path} {ROOT}", "-p", "no:cacheprovider", str(tmp_path)]
    found = subprocess.run([*command, *paths], cwd=tmp_path, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.fail(found.stdout[-3000:] + found.stderr[-1000:])
    assert "passed" in found.stdout
