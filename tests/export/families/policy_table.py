"""Which policies work in which family: tried on tiny models, and written down.

python -m tests.export.families.policy_table    writes export/families/POLICIES.md
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import SelectingModule, initial_state
from saccade.policies.registry import POLICIES, build_policy
from saccade.proto.errors import ExportError, PolicyError
from tests.export.families.policy_subjects import SUBJECTS, Subject, subject

TABLE = Path(__file__).parents[3] / "export" / "families" / "POLICIES.md"
Outcomes = Mapping[tuple[str, str], str]
"""Family and policy to why it is refused, or nothing."""
NAMES = tuple(name for name in POLICIES if name != "keep_all")
LEAD = """# Policies by family

Made by `python -m tests.export.families.policy_table`; a test makes it again and compares.

*yes*: with its default options the policy ran in the module that is exported, on a tiny model of the family with random
weights; half of the visual tokens were dropped, as many as should be were kept, in their order, and the answer changed;
with every token kept it was the unpruned model's answer, bit for bit. That says that a policy *works* there, nothing of
what it is worth. Every export compares its own graphs with that module. A number: refused, for the reason below.
LLaVA-NeXT and LLaVA-OneVision see one tiled picture here, LLaVA-Video four frames, Qwen one picture.

"""


@functools.cache
def outcome(family: str, policy: str) -> str:
    """Return why the policy is refused, or nothing if it runs.

    Raises:
        AssertionError: It runs, and what comes out cannot be.
    """
    found = subject(family)
    grid = found.model.grid
    # A cut inside a tower keeps equally many of each view.
    keep = grid.tokens // 2 // grid.views * grid.views
    try:
        built = build_policy(policy, {}, model_shape(found.model))
        step = found.build(built, keep).eval()
    except (ExportError, PolicyError) as error:
        return error.message.splitlines()[-1].strip()
    _check(found, step, found.build(built, grid.tokens).eval())
    return ""


@torch.no_grad()
def _check(found: Subject, step: SelectingModule, whole: SelectingModule) -> None:
    answer, kept, *_ = step(*found.given, *initial_state(step))
    keep_all = build_policy("keep_all", {}, model_shape(found.model))
    everything = found.build(keep_all, found.model.grid.tokens).eval()(*found.given)[0]
    assert torch.equal(whole(*found.given, *initial_state(whole))[0], everything)
    assert kept.shape == (1, step.survivors)
    assert step.survivors < found.model.grid.tokens
    assert (kept.diff() > 0).all()
    assert kept.min() >= 0
    assert kept.max() < found.model.grid.tokens
    assert torch.isfinite(answer).all()
    assert not torch.allclose(answer, everything, atol=1e-6)


def document(outcomes: Outcomes) -> str:
    """Return the whole document that says these outcomes."""
    reasons: dict[str, int] = {}
    rows = list(_rows(outcomes, reasons))
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return LEAD + "\n".join([*rows, "", *notes]) + "\n"


def _rows(outcomes: Outcomes, reasons: dict[str, int]) -> Iterator[str]:
    yield f"| | {' | '.join(SUBJECTS)} |"
    yield f"|---|{'---|' * len(SUBJECTS)}"
    for name in NAMES:
        cells = [_cell(outcomes[family, name], reasons) for family in SUBJECTS]
        yield f"| `{name}` | {' | '.join(cells)} |"


def _cell(reason: str, reasons: dict[str, int]) -> str:
    return str(reasons.setdefault(reason, len(reasons) + 1)) if reason else "yes"


def written() -> Outcomes:
    """Return what the document says."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    notes = {line.split(". ")[0]: line.split(". ", 1)[1] for line in lines if line[:1].isdigit()}
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    return {
        (family, row[0].strip("`")): "" if cell == "yes" else notes[cell]
        for row in rows
        for family, cell in zip(head[1:], row[1:], strict=True)
    }


if __name__ == "__main__":
    tried = {(family, name): outcome(family, name) for family in SUBJECTS for name in NAMES}
    TABLE.write_text(document(tried), encoding="utf-8")
