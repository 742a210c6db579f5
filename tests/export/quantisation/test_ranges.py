import numpy as np

from saccade.export.lowering.precision import LARGEST
from saccade.export.quantisation.activations import observe
from saccade.export.quantisation.ranges import beyond, largest_values
from tests.export.quantisation.conftest import Measured


def test_the_largest_value_of_all_frames_is_told(measured: Measured) -> None:
    (stage,) = measured.manifest.profile("keep25").stages
    graph, records = measured.bundle / stage.graph, measured.records["keep25"][:3]
    found = largest_values(graph, stage, records, ["actions"])
    names = list(found)[:5]
    steps = list(observe(graph, stage, records, names))
    for name in names:
        assert found[name] == max(np.abs(step[name]).max() for step in steps) > 0
    assert "actions" not in found


def test_what_leaves_no_margin_is_beyond() -> None:
    largest = {
        "small": 1.0,
        "near": LARGEST / 1.5,
        "over": 1e6,
        "endless": np.inf,
        "nothing": np.nan,
        "just": LARGEST / 2,
    }
    assert set(beyond(largest)) == {"near", "over", "endless", "nothing"}
