"""The page on published checkpoints says what happens to each layout, letter by letter."""

from __future__ import annotations

import pytest

from tests.export.layouts.table import GROUPS, PAGE, WORKS, outcomes, page


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return outcomes(tmp_path_factory.mktemp("layouts"))


def test_the_page_says_what_happens(found: dict[str, str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text, found), "run python -m tests.export.layouts.table, and look at what changed"


def test_every_refusal_says_what_was_expected_what_was_found_and_what_to_do(found: dict[str, str]) -> None:
    assert len(found) == sum(map(len, GROUPS.values())) >= 40
    refused = {name: said for name, said in found.items() if not said.startswith(WORKS)}
    assert len(refused) < len(found)
    assert [name for name, said in refused.items() if "expected" not in said or "found" not in said] == []
    assert [name for name, said in refused.items() if "correct config.json" in said] == []
