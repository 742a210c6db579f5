"""The worked example in CONTRIBUTING.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PREAMBLE = """
from types import MappingProxyType
from saccade.policies import registry
import text_top_k
registry.POLICIES = MappingProxyType({
    **registry.POLICIES,
    "text_top_k": registry.PolicyEntry(text_top_k.TextTopKConfig, text_top_k.TextTopK),
})
"""


def test_the_example_policy_passes_its_tests(tmp_path: Path) -> None:
    policy, test = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    (tmp_path / "text_top_k.py").write_text(policy)
    (tmp_path / "conftest.py").write_text(PREAMBLE)
    (tmp_path / "test_text_top_k.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", "--import-mode=importlib"]
    paths = ["-o", f"pythonpath={tmp_path} {ROOT}", "-p", "no:cacheprovider", str(tmp_path)]
    found = subprocess.run([*command, *paths], cwd=tmp_path, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.fail(found.stdout[-3000:] + found.stderr[-1000:])
    assert "passed" in found.stdout
