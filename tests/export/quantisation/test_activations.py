import numpy as np
import onnx_ir as ir

from saccade.export.lowering.products import find_products
from saccade.export.quantisation.activations import as_rows, observe
from tests.export.quantisation.conftest import Measured


def test_what_a_weight_is_multiplied_with_gives_its_product(measured: Measured) -> None:
    (stage,) = measured.manifest.profile("keep25").stages
    graph = measured.bundle / stage.graph
    product = find_products(ir.load(graph))[-1]
    entered, left = product.activations[0].name or "", product.nodes[0].outputs[0].name or ""
    steps = list(observe(graph, stage, measured.records["keep25"][:2], [entered, left]))
    assert len(steps) == 2
    for step in steps:
        np.testing.assert_allclose(as_rows(step[entered]) @ product.weight, as_rows(step[left]), atol=1e-4)


def test_an_output_of_the_graph_can_be_observed_too(measured: Measured) -> None:
    (stage,) = measured.manifest.profile("full").stages
    record = measured.records["full"][0]
    (step,) = observe(measured.bundle / stage.graph, stage, [record], ["actions"])
    np.testing.assert_allclose(step["actions"][0], record.actions, atol=1e-6)
