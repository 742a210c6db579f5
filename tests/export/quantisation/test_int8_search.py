from math import inf

import onnx_ir as ir
import pytest

from saccade.export.quantisation.int8_search import Int8Search
from tests.export.quantisation.conftest import Measured


@pytest.fixture(scope="module")
def search(measured: Measured) -> Int8Search:
    records = {"keep25": measured.records["keep25"][:3]}
    return Int8Search(measured.bundle, measured.manifest, records, measured.ruler, ["keep25"])


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def test_the_more_is_allowed_the_more_becomes_int8(search: Int8Search) -> None:
    sensitivities = search.sensitivities(silent)
    assert {each.group for each in sensitivities} == set(search.groups)
    assert [each.share for each in sensitivities] == sorted(each.share for each in sensitivities)
    whole = search.error(search.choice(search.groups))
    assert whole > 0
    for budget, expected in ((0.0, set()), (inf, set(search.groups))):
        assert set(search.largest_within(sensitivities, budget, silent).groups) == expected
    half = search.largest_within(sensitivities, whole / 2, silent)
    assert 0 < len(half.groups) < len(search.groups)
    assert search.error(half) <= whole / 2
    assert half.groups == tuple(each.group for each in sensitivities[: len(half.groups)])


def test_nothing_chosen_changes_nothing(search: Int8Search, measured: Measured) -> None:
    none = search.choice([])
    assert search.error(none) < 1e-6
    model = ir.load(measured.bundle / measured.manifest.graphs[0])
    none.apply(model)
    assert not [node for node in model.graph if node.op_type == "MatMulInteger"]
