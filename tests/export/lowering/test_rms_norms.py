import onnx_ir as ir
import pytest

from saccade.export.lowering.rms_norms import find_rms_norm, made_by, scalar
from tests.export.lowering.rms_graph import NORMS, decoder


def node(model: ir.Model, name: str) -> ir.Node:
    return next(each for each in model.graph if each.outputs[0].name == name)


def test_every_norm_is_found_with_its_parts() -> None:
    model = decoder()
    found = {each.outputs[0].name: norm for each in model.graph if (norm := find_rms_norm(each)) is not None}
    assert set(found) == set(NORMS)
    for name, x in zip(NORMS, ("stream", "kept", "end"), strict=True):
        norm = found[name]
        assert (norm.x.name, norm.weight.name) == (x, f"{name}.weight")
        assert norm.epsilon == pytest.approx(1e-6)
        assert (norm.power.outputs[0].name, norm.divide.outputs[0].name) == (
            f"{name}.power",
            f"{name}.divided",
        )


@pytest.mark.parametrize(
    ("name", "place", "other"),
    [
        ("norm1.power", 1, "epsilon"),
        ("norm1.power", 0, "middle"),
        ("norm1.mean", 1, "rows"),
        ("norm1", 1, "seen"),
        ("norm1", 1, "begin"),
    ],
)
def test_what_computes_something_else_is_none(name: str, place: int, other: str) -> None:
    model = decoder()
    known = {**model.graph.initializers, **{each.outputs[0].name: each.outputs[0] for each in model.graph}}
    node(model, name).replace_input_with(place, known[other])
    assert find_rms_norm(node(model, "norm1")) is None


def test_a_norm_of_which_something_else_reads_a_part_is_none() -> None:
    model = decoder()
    model.graph.append(ir.node("Abs", [node(model, "norm1.divided").outputs[0]]))
    assert find_rms_norm(node(model, "norm1")) is None


def test_makers_and_numbers() -> None:
    model = decoder()
    assert made_by(node(model, "seen").outputs[0], "Add") is node(model, "seen")
    assert made_by(node(model, "seen").outputs[0], "Mul") is None and made_by(None, "Add") is None
    assert scalar(model.graph.initializers["two"]) == 2 and scalar(model.graph.initializers["rows"]) is None
