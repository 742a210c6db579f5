"""``saccade inspect`` on bundles: the shipped one, one without accounting, damaged ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from saccade.proto.accounting import ACCOUNTING_RECEIPT as RECEIPT
from saccade.proto.errors import BundleIntegrityError, UnknownProfileError
from saccade.proto.inspection import CutPlace
from saccade.proto.manifest import manifest_from_json, read_manifest, write_manifest
from saccade.proto.strict_json import dump_json
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands import inspect as cli
from saccade.runtime.commands.main import main
from saccade.runtime.inspection.bundle import inspect_bundle
from tests.tiny_bundle import file_specs, write_tiny_bundle

MINI = Path(__file__).parents[3] / "sim/saccade_mini/bundle"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


def inspected(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def with_receipt(root: Path, content: str) -> Path:
    """Put an accounting receipt into a bundle, as an export would."""
    (root / RECEIPT).parent.mkdir(exist_ok=True)
    (root / RECEIPT).write_text(content)
    manifest = read_manifest(root)
    write_manifest(replace(manifest, files=file_specs(root)), root)
    return root


def test_the_shipped_bundle_says_what_its_receipt_says() -> None:
    found = inspect_bundle(Bundle.open(MINI))
    receipt = json.loads((MINI / RECEIPT).read_text())
    assert [budget.name for budget in found.budgets] == ["full", "keep50", "keep25", "keep12.5"]
    for budget in found.budgets:
        assert sum(part.macs for part in budget.parts) == receipt[budget.name]["macs"]
        stages = receipt[budget.name]["stages"]
        assert (
            sum(part.weights for part in budget.parts) == sum(s["weight_bytes"] for s in stages.values()) // 4
        )
    assert [part.name for part in found.budgets[0].parts] == [
        "vision",
        "projector",
        "decoder",
        "action_head",
        "selection",
    ]
    (fit,) = found.policies
    assert (fit.name, fit.acts) == ("vla_pruner", (CutPlace("decoder", 1),))
    assert found.unit == "control step" and found.visual_tokens == 288


def test_a_person_sees_cost_time_and_verdict() -> None:
    result = inspected(MINI, "--device", "cpu-2-cores", "--device", "agx-thor", "--keep", "1.0,0.25")
    assert result.exit_code == 0, result.output
    for part in (
        "saccade-mini - bundle, family openvla_oft",
        "2 x (12 x 12) = 288 visual tokens",
        "One control step: FLOPs, and bytes read with weights in fp32",
        "4.80 GFLOP",
        "Does pruning pay?",
        "2 x86 cores with AVX2, fp32: pruning pays, ",
        "Jetson AGX Thor, fp16: pruning does not pay, ",
        "Source: NVIDIA Jetson Thor data sheet",
        "decoder layer 1",
    ):
        assert part in result.output
    assert "keep50" not in result.output.split("One control step")[1]
    assert (
        max(map(len, result.output.split("One control step")[1].split("Does pruning pay?")[0].splitlines()))
        <= 90
    )


def test_a_machine_gets_everything_unrounded() -> None:
    result = inspected(MINI, "--device", "agx-orin", "--dtype", "int8", "--json")
    found = json.loads(result.output)
    assert (
        found["kind"] == "bundle" and manifest_from_json(json.dumps(found["manifest"])).name == "saccade-mini"
    )
    (device,) = found["devices"]
    assert (device["name"], device["dtype"]) == ("agx-orin", "int8")
    assert device["peak_flop_per_s"]["int8"] == 85e12
    full = device["budgets"][0]
    decoder = next(part for part in full["parts"] if part["name"] == "decoder")
    assert decoder["flops"] == 2 * 1990950400
    assert decoder["compute_s"] == pytest.approx(2 * 1990950400 / 85e12)
    assert decoder["memory_s"] == pytest.approx(20988928 / 4 / 204.8e9)
    assert full["seconds"] == pytest.approx(sum(max(p["compute_s"], p["memory_s"]) for p in full["parts"]))
    assert found["budgets"][0]["parts"][0]["passes"] == 1


def test_every_machine_is_asked_unless_some_are_named() -> None:
    found = json.loads(inspected(MINI, "--json").output)
    assert len(found["devices"]) >= 9
    lacking = json.loads(inspected(MINI, "--dtype", "fp8", "--json").output)
    silent = {device["name"] for device in lacking["devices"] if not device["budgets"]}
    assert {"orin-nano", "agx-orin", "pi-5"} <= silent and "agx-thor" not in silent
    shown = inspected(MINI, "--dtype", "fp8").output
    assert "Jetson AGX Orin 64 GB, fp8: it has no fp8 arithmetic, only fp32, fp16, int8." in shown


def test_a_bundle_without_accounting_says_so(tiny: Path) -> None:
    result = inspected(tiny)
    assert result.exit_code == 0
    assert f"No costs are known: the bundle has no {RECEIPT}; export it again" in result.output
    for part in ("tiny", "scene 8x8", "dx [m], gripper", "keep50 4 of 8", "carry.h"):
        assert part in result.output
    assert "FLOP" not in result.output and "pruning" not in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected an object with an entry for each profile, found []"),
        ('{"full": {}}', "expected stages with macs and weight_bytes, and visual_by_layer"),
        ('{"full": {"stages": {"decoder": {"macs": "x"}}}}', "expected stages with macs"),
        ('{"full": {"stages": [1], "visual_by_layer": []}}', "expected stages with macs"),
    ],
)
def test_a_broken_receipt_is_named(tiny: Path, content: str, message: str) -> None:
    result = inspected(with_receipt(tiny, content))
    assert result.exit_code == 1
    assert f"{RECEIPT}: {message}" in result.output and "export the bundle again" in result.output


def test_ratios_are_those_of_the_profiles(tiny: Path) -> None:
    bundle = Bundle.open(tiny)
    with pytest.raises(UnknownProfileError, match=r"profiles, \[0\.5, 1\.0\], found \[0\.3\]"):
        inspect_bundle(bundle, (0.3,))


def test_a_damaged_bundle_is_refused(tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleIntegrityError, match="copy the bundle again"):
        Bundle.open(tiny)
    assert inspected(tiny).exit_code == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ("--views", "2", "--config-only"),
            1,
            "expected a checkpoint with --views, --config-only, found a bundle",
        ),
        (("--device", "orin"), 1, "found 'orin'; did you mean"),
        (("--dtype", "fp5"), 2, "'fp5' is not one of"),
        (("--keep", "many"), 2, "expected numbers such as 1.0,0.25, found 'many'"),
        (
            ("--image-size", "480"),
            2,
            "expected width and height of a picture in pixels, such as 640x480, found '480'.",
        ),
    ],
)
def test_wrong_options_are_explained(tiny: Path, options: tuple[str, ...], code: int, message: str) -> None:
    result = inspected(tiny, *options)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())


def test_a_folder_that_is_neither_is_one_message(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        result = inspected(path)
        assert result.exit_code == 1
        assert (
            "Error: expected a bundle with manifest.json or a checkpoint with config.json, found none at"
            in result.output
        )


def test_a_checkpoint_without_the_build_machine_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(cli, "entry_points", lambda group: ())
    result = inspected(tmp_path)
    assert result.exit_code == 1
    assert "pip install 'saccade-vla[export]'" in result.output


def test_a_bundle_is_inspected_without_torch() -> None:
    """Not only the import graph: it runs on a machine that has no torch."""
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None, safetensors=None)\n"
        f"sys.argv = ['saccade', 'inspect', {str(MINI)!r}, '--device', 'pi-5']\n"
        "from saccade.runtime.commands.main import main; main()"
    )
    found: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "Raspberry Pi 5, fp32: pruning pays" in found.stdout


def test_the_manifest_is_whole(tiny: Path) -> None:
    found = json.loads(inspected(tiny, "--json").output)
    assert dump_json(manifest_from_json(json.dumps(found["manifest"]))) == dump_json(read_manifest(tiny))


def test_usual_proprioception_is_shown_and_what_never_varied(tiny: Path) -> None:
    facts = inspect_bundle(Bundle.open(tiny)).facts
    assert facts["usual"] == "x -1 to 1, y -1 to 1" and "constant" not in facts
    statistics = json.loads((tiny / "statistics.json").read_text())
    statistics["tiny"]["proprio"]["q01"][1] = 1.0
    (tiny / "statistics.json").write_text(json.dumps(statistics))
    write_manifest(replace(read_manifest(tiny), files=file_specs(tiny)), tiny)
    assert inspect_bundle(Bundle.open(tiny)).facts["constant"] == "proprio y"
