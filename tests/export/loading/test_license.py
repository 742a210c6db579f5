"""The license is what the model card says, and unknown where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.license import UNKNOWN, read_license


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", "Apache-2.0"),
        ("---\r\nlicense: 'MIT'\r\n---\r\n", "MIT"),
        ("---\nlicense: llama2\n---\n", "LicenseRef-llama2"),
        ("---\nlicense: other\nlicense_name: tongyi_qianwen\n---\n", "LicenseRef-tongyi-qianwen"),
        ("---\nlicense: other\n---\n", "LicenseRef-other"),
        ("---\nlanguage: en\n---\nlicense: mit\n", UNKNOWN),
        ("# Model\nlicense: mit\n", UNKNOWN),
        ("---\nlicense:\n  - mit\n---\n", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_front_matter(tmp_path: Path, card: str, found: str) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert read_license(CheckpointFolder(tmp_path)) == found


def test_no_card_is_unknown(tmp_path: Path) -> None:
    assert read_license(CheckpointFolder(tmp_path)) == UNKNOWN
