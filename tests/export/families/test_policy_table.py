"""The table of policies by family says what runs today, and the file is that table, letter by letter."""

from __future__ import annotations

import pytest

from tests.export.families.policy_subjects import SUBJECTS
from tests.export.families.policy_table import NAMES, TABLE, document, outcome, written


@pytest.mark.parametrize("family", SUBJECTS)
def test_the_table_says_what_runs(family: str) -> None:
    found = {(family, name): outcome(family, name) for name in NAMES}
    assert found == {key: reason for key, reason in written().items() if key[0] == family}, (
        "run python -m tests.export.families.policy_table, and look at what changed"
    )


def test_the_file_is_what_is_made_from_its_table() -> None:
    assert TABLE.read_text(encoding="utf-8") == document(written())
