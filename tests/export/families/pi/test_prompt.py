"""Which prompts a checkpoint of π0 or π0.5 may have been trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.families.pi.prompt import PI0_PROMPT, PI05_PROMPT, templates
from saccade.export.loading.checkpoint_folder import CheckpointFolder

STATE, PLAIN = PI05_PROMPT.template, PI0_PROMPT.template


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("pi05_prepare_state_tokenizer_processor_step", (STATE,)),
        ("pi0_new_line_processor", (PLAIN,)),
        ("normalizer_processor", (STATE, PLAIN)),
        (None, (STATE, PLAIN)),
    ],
)
def test_lerobots_processor_tells_whether_the_state_is_in_it(
    tmp_path: Path, step: str | None, expected: tuple[str, ...]
) -> None:
    if step is not None:
        steps = [{"registry_name": step, "config": {}}]
        (tmp_path / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))
    assert templates(CheckpointFolder(tmp_path), PI05_PROMPT) == expected
    plain = PLAIN if step in {None, "pi0_new_line_processor"} else "{instruction}"
    assert templates(CheckpointFolder(tmp_path), PI0_PROMPT) == (plain,)
