from saccade.proto.lowering_spec import LoweringSpec
from saccade.proto.strict_json import dump_json, from_json, parse_json


def test_round_trip() -> None:
    spec = LoweringSpec(
        "cpu-int8", {"graphs/a.onnx": "graphs/a.cpu-int8.onnx"}, {"budget": 0.01, "passes": ["int8"]}
    )
    assert from_json(LoweringSpec, parse_json(dump_json(spec))) == spec
