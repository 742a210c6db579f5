"""A rotated model computes the same before anything is rounded, and loses less after."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from saccade.export.lowering.gptq import round_to_nearest
from saccade.export.lowering.hadamard import rotation
from saccade.export.lowering.int4 import lower_to_int4
from saccade.export.lowering.products import find_products
from saccade.export.lowering.rotation import rotate_residual_stream
from saccade.proto.errors import ExportError
from tests.export.lowering.attention_graph import block, weights
from tests.export.lowering.rms_graph import WIDTH, decoder, run


@pytest.mark.parametrize("readers", [1, 2])
def test_results_are_the_same_and_the_stream_is_another(readers: int) -> None:
    plain, turned = decoder(readers), decoder(readers)
    report = rotate_residual_stream(turned)
    assert (report.widths, report.back) == ([WIDTH], readers + 1), (
        "each reader, and the head behind the last norm"
    )
    onnx.checker.check_model(ir.to_proto(turned), full_check=True)
    for model in (plain, turned):
        model.graph.outputs.append(
            next(node.outputs[0] for node in model.graph if node.outputs[0].name == "end")
        )
    for seed in range(3):
        (y, score, end), (found, same, rotated) = run(plain, seed=seed), run(turned, seed=seed)
        np.testing.assert_allclose(found, y, atol=2e-5)
        np.testing.assert_allclose(same, score, rtol=1e-5)
        np.testing.assert_allclose(rotated, end @ rotation(WIDTH), atol=2e-5)  # type: ignore[operator]
        assert np.abs(rotated - end).max() > 0.1


def test_norms_have_no_weight_left() -> None:
    model = decoder()
    rotate_residual_stream(model)
    read = {value.name for node in model.graph for value in node.inputs if value is not None}
    assert not read & {"norm1.weight", "norm2.weight", "final.weight"}
    assert not read & {"q", "o", "down", "table", "begin", "project", "project.bias"}, "each is turned"
    assert "head" in read, "what is behind a LayerNorm is not of the stream"


def outlying() -> ir.Model:
    """A decoder of which one channel of the stream is large, as those of real ones are: its norms bring it back."""
    model = decoder()
    for name in ("project", "project.bias", "table", "begin", "o", "down"):
        stored = model.graph.initializers[name]
        values = stored.const_value.numpy().copy()  # type: ignore[union-attr]
        values[..., 3] *= 40
        stored.const_value = ir.tensor(values, name=name)
    return model


def test_an_outlier_costs_few_bits_less_after_the_rotation() -> None:
    wanted = run(outlying(), "y")[0]
    lost = []
    for is_rotated in (False, True):
        model = outlying()
        if is_rotated:
            rotate_residual_stream(model)
        rounded = {
            each.name: round_to_nearest(each.weight, bits=4, block=24) for each in find_products(model)
        }
        lower_to_int4(model, rounded)
        lost.append(np.square(run(model, "y")[0] - wanted).mean())
    assert lost[1] < lost[0]


def test_a_model_without_rms_norms_is_refused() -> None:
    with pytest.raises(ExportError, match="whose layers begin with an RMSNorm to rotate, found none"):
        rotate_residual_stream(block(weights()))


def test_a_width_without_a_rotation_is_refused() -> None:
    with pytest.raises(ExportError, match="found 18 channels: leave --rotate out"):
        rotate_residual_stream(decoder(width=18))


def test_a_stream_that_much_else_reads_is_refused() -> None:
    with pytest.raises(
        ExportError, match="behind 3 norms read, found 4 places that read or write it otherwise"
    ):
        rotate_residual_stream(decoder(readers=3))


def test_a_stream_that_leaves_the_graph_is_refused() -> None:
    model = decoder()
    model.graph.outputs.append(next(node.outputs[0] for node in model.graph if node.outputs[0].name == "end"))
    with pytest.raises(ExportError, match="stays in the graph, found the output 'end'"):
        rotate_residual_stream(model)
