from dataclasses import replace

import pytest

from saccade.proto.closed_loop import ClosedLoopReceipt
from saccade.proto.errors import ManifestError, UnknownLoweringError
from saccade.proto.lowering_spec import LoweringSpec
from saccade.proto.manifest import Manifest, manifest_from_json, manifest_to_json
from tests.tiny_bundle import tiny_manifest, write_tiny_bundle


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_manifest(write_tiny_bundle(tmp_path_factory.mktemp("manifest") / "tiny"))


def test_a_lowering_has_a_graph_for_each(manifest: Manifest) -> None:
    full, keep50 = manifest.graphs
    swapped = LoweringSpec("swapped", {full: keep50, keep50: full}, {"passes": []})
    more = replace(manifest, lowerings=(swapped,))
    assert manifest_from_json(manifest_to_json(more)) == more
    assert more.lowered("swapped")[full] == keep50
    assert more.lowered("cpu-fp32") == {full: full, keep50: keep50}
    with pytest.raises(UnknownLoweringError, match=r"\(cpu-fp32, swapped\), found 'int2'"):
        more.lowered("int2")


def test_what_does_not_fit_is_named(manifest: Manifest) -> None:
    full, keep50 = manifest.graphs
    whole = {full: full, keep50: keep50}
    for lowerings, message in (
        ((LoweringSpec("cpu-fp32", whole),), "unique names other than cpu-fp32"),
        ((LoweringSpec("a", whole), LoweringSpec("a", whole)), r"found \['a', 'a'\]"),
        ((LoweringSpec("a", {full: full}),), r"\$\.lowerings\[0\]\.graphs: expected one graph for each of"),
        (
            (LoweringSpec("a", {**whole, full: "graphs/no.onnx"}),),
            "a file listed in .*found 'graphs/no.onnx'",
        ),
        ((LoweringSpec("a", {**whole, full: "../up.onnx"}),), "a relative path within the bundle"),
    ):
        with pytest.raises(ManifestError, match=message):
            replace(manifest, lowerings=lowerings)
    with pytest.raises(ManifestError, match=r"expected profiles of this bundle, found \['keep7'\]"):
        replace(manifest, closed_loop=ClosedLoopReceipt({"keep7": {}}))
