import numpy as np
import onnx_ir as ir
import pytest

from saccade.export.lowering.gptq import gptq, hessian, round_to_nearest
from saccade.export.lowering.products import find_products
from saccade.export.lowering.token_importance import attention_of, importances
from saccade.export.quantisation.activations import as_rows, observe
from saccade.export.quantisation.rounding import GPTQ, NEAREST, RSQ, rounded_weights
from tests.export.quantisation.conftest import Measured

BITS, BLOCK = 4, 16


def test_nearest_needs_no_frames(measured: Measured) -> None:
    found = rounded_weights(measured.bundle, measured.manifest, {}, rounding=NEAREST, bits=BITS, block=BLOCK)
    products = {
        each.name: each for each in find_products(ir.load(measured.bundle / measured.manifest.graphs[0]))
    }
    assert set(found) == {name for name, each in products.items() if each.shape[0] % BLOCK == 0}
    name = next(iter(found))
    nearest = round_to_nearest(products[name].weight, bits=BITS, block=BLOCK)
    np.testing.assert_array_equal(found[name].values, nearest.values)


@pytest.mark.parametrize("rounding", [GPTQ, RSQ])
def test_every_profile_and_frame_counts_by_its_rows(measured: Measured, rounding: str) -> None:
    """The Hessian of one weight, gathered by hand over both profiles."""
    records = {name: steps[:3] for name, steps in measured.records.items()}
    found = rounded_weights(
        measured.bundle, measured.manifest, records, rounding=rounding, bits=BITS, block=BLOCK
    )
    curvature, name, weight = 0.0, "", None
    for profile, steps in records.items():
        (stage,) = measured.manifest.profile(profile).stages
        graph = measured.bundle / stage.graph
        model = ir.load(graph)
        products = find_products(model)
        attention = attention_of(model, products)
        last = [each for each in products if (each.name, 0) in attention and each.shape[0] % BLOCK == 0][-1]
        name, weight = last.name, last.weight
        rows, seen = last.activations[0].name or "", attention[last.name, 0].name or ""
        for step in observe(graph, stage, steps, [rows, seen]):
            entered = as_rows(step[rows])
            matters = importances(step[seen]) if rounding == RSQ else None
            curvature = curvature + hessian(entered, matters) * len(entered)
    assert weight is not None
    wanted = gptq(weight, np.asarray(curvature), bits=BITS, block=BLOCK)
    np.testing.assert_array_equal(found[name].values, wanted.values)
    np.testing.assert_array_equal(found[name].scales, wanted.scales)
