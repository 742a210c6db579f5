# ruff: noqa: E501 - tables of cases, one a line
import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.proto import errors
from saccade.proto.bundle_layout import MANIFEST_NAME, bundle_path
from saccade.proto.closed_loop import ClosedLoopReceipt, Outcomes
from saccade.proto.manifest import (
    Manifest,
    manifest_from_json,
    manifest_to_json,
    read_manifest,
    write_manifest,
)
from saccade.proto.policy_spec import CameraCutSpec, GateSpec
from tests.tiny_bundle import tiny_manifest, write_tiny_bundle
from tests.tiny_scorer import tiny_scorer_manifest, write_tiny_scorer

Json = dict[str, Any]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_manifest(write_tiny_bundle(tmp_path_factory.mktemp("manifest") / "tiny"))


@pytest.fixture
def value(manifest: Manifest) -> Json:
    parsed: Json = json.loads(manifest_to_json(manifest))
    return parsed


def test_round_trip(manifest: Manifest, tmp_path: Path) -> None:
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    write_manifest(manifest, tmp_path)
    assert read_manifest(tmp_path) == manifest


def test_a_manifest_is_replaced_whole(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path)
    receipt = ClosedLoopReceipt({"full": {"push": Outcomes(48, 50)}}, settings={"seeds": [0, 50]})
    measured = replace(manifest, closed_loop=receipt)
    write_manifest(measured, tmp_path)
    assert read_manifest(tmp_path) == measured
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]
    with pytest.raises(errors.ManifestError, match="JSON cannot hold"):
        write_manifest(replace(measured, closed_loop=ClosedLoopReceipt({}, settings={"time": nan})), tmp_path)
    assert read_manifest(tmp_path) == measured


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key of every object whose keys are fields, and not free-form."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        here = (*path, key)
        if isinstance(value, dict) and not {"inputs", "outputs", "files", "config", "producer"} & set(
            map(str, path[-1:])
        ):
            found.append(here)
        found += paths_of(item, here)
    return found


def shown(path: tuple[Any, ...]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def parent_of(value: Json, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def test_every_missing_key_is_named(value: Json) -> None:
    for path in paths_of(value):
        copy = json.loads(json.dumps(value))
        del parent_of(copy, path)[path[-1]]
        with pytest.raises(errors.ManifestError) as raised:
            manifest_from_json(json.dumps(copy))
        assert shown(path) in raised.value.message


def test_every_unknown_key_is_named(value: Json) -> None:
    for path in paths_of(value):
        copy = json.loads(json.dumps(value))
        parent_of(copy, path)["surprise"] = 1
        with pytest.raises(errors.ManifestError, match="surprise: unknown key; expected only"):
            manifest_from_json(json.dumps(copy))


@pytest.mark.parametrize("wrong", [None, {"a": 1}, [[]], True])
def test_every_wrong_type_is_named(value: Json, wrong: Any) -> None:
    for path in paths_of(value):
        if path[-1] in {"files", "producer", "config", "policy_config", "inputs", "outputs"} and isinstance(
            wrong, dict
        ):
            continue
        copy = json.loads(json.dumps(value))
        parent_of(copy, path)[path[-1]] = wrong
        with pytest.raises(errors.ManifestError) as raised:
            manifest_from_json(json.dumps(copy))
        assert shown(path) in raised.value.message


def set_at(*path: Any, to: Any) -> Callable[[Json], None]:
    def change(value: Json) -> None:
        parent_of(value, path)[path[-1]] = to

    return change


def pop_at(*path: Any) -> Callable[[Json], None]:
    return lambda value: parent_of(value, path).pop(path[-1])


def add_carry(value: Json) -> None:
    value["tensors"].append({**value["tensors"][4], "name": "carry.more"})
    value["carry"].append({"name": "carry.more", "initial": 0})


def add_tensor(**spec: Any) -> Callable[[Json], None]:
    dims = [f"axis{number}" for number in range(len(spec["shape"]))]
    return lambda value: value["tensors"].append({"dims": dims, "unit": "1", **spec})


def output_to_task(value: Json) -> None:
    add_tensor(name="task.view_scores", role="task", dtype="float32", shape=[1, 2])(value)
    value["profiles"][1]["stages"][0]["outputs"]["actions"] = "task.view_scores"


def gate_with(**action: Any) -> Callable[[Json], None]:
    def change(value: Json) -> None:
        value["policy"]["gate"] = {"window": 3, "look_back": 2}
        value["action"] |= action

    return change


STAGE = ("profiles", 1, "stages", 0)
BROKEN: dict[str, tuple[Callable[[Json], None], str]] = {
    "closed loop of another profile": (set_at("closed_loop", to={"outcomes": {"keep7": {}}}), r"\$\.closed_loop\.outcomes: expected profiles of this bundle, found \['keep7'\]"),
    "more successes than episodes": (set_at("closed_loop", to={"outcomes": {"full": {"push": {"successes": 3, "episodes": 2}}}}), r"\$\.closed_loop\.outcomes\.full\.push: expected at least 1 episode .* found 3 of 2"),
    "no full profile": (set_at("profiles", 0, "name", to="most"), r"\$\.profiles: expected one named 'full' with keep 8, found none"),
    "noise without a width": (add_tensor(name="noise", role="host", dtype="float32", shape=[1, 3, 5]), "a host tensor that the runtime knows .* found 'noise'|noise_dim"),
    "a width without noise": (set_at("noise_dim", to=5), r"\$.noise_dim: expected more than 0 where there is a tensor 'noise' and else 0, found 5"),
    "relative of some": (set_at("action", "relative", to=[True]), "expected relative for none or for each of .*dx"),
    "relative to nothing": (lambda value: (value["action"].update(relative=[False, True]), value["proprio"].update(names=["x"], units=["m"])), r"\$.action.relative: expected it of dimensions that proprioception has, found it of 1 where there are 1"),
    "full keeps less": (set_at("profiles", 0, "keep", to=7), r"'full' with keep 8, found \[7\]"),
    "profile twice": (set_at("profiles", 1, "name", to="full"), r"\$\.profiles: expected unique"),
    "keep too large": (set_at("profiles", 1, "keep", to=9), r"\$\.profiles\[1\]\.keep: expected 1\.\.8, found 9"),
    "ratio 0": (set_at("profiles", 1, "keep_ratio", to=0), r"\$\.profiles\[1\]\.keep_ratio: expected above 0 and at most 1"),
    "ratio above 1": (set_at("profiles", 1, "keep_ratio", to=1.5), r"\$\.profiles\[1\]\.keep_ratio: expected above 0 and at most 1"),
    "ratio 1 and tokens dropped": (set_at("profiles", 1, "keep_ratio", to=1), r"1 exactly where all 8 visual tokens survive, found 1\.0 where 4 survive"),
    "ratio below 1 and no token dropped": (set_at("profiles", 0, "keep_ratio", to=0.9), r"\$\.profiles\[0\]\.keep_ratio: .* found 0\.9 where 8 survive"),
    "no profile": (set_at("profiles", to=[]), "at least one view and one profile"),
    "graph not listed": (set_at(*STAGE, "graph", to="graphs/other.onnx"), r"stages\[0\]\.graph: expected a file listed"),
    "graph outside": (set_at(*STAGE, "graph", to="../step.onnx"), "expected a relative path within the bundle"),
    "tokenizer absolute": (set_at("instruction", "tokenizer", to="/etc/passwd"), "found '/etc/passwd'"),
    "statistics not listed": (set_at("statistics", to="other.json"), r"\$\.statistics: expected a file listed"),
    "manifest lists itself": (set_at("files", "manifest.json", to={"sha256": "0" * 64, "bytes": 1}), "every file but manifest.json"),
    "digest is none": (set_at("files", "tokenizer.json", "sha256", to="xyz"), r"\$\.files\.tokenizer\.json: sha256: expected 64"),
    "file too large": (set_at("files", "tokenizer.json", "bytes", to=1 << 50), r"bytes: expected 0\.\."),
    "input not declared": (set_at(*STAGE, "inputs", "images", to="pictures"), r"inputs\.images: expected a host, task or carry tensor"),
    "output to the task": (output_to_task, r"outputs\.actions: expected a declared tensor"),
    "task tensor unknown": (add_tensor(name="task.mood", role="task", dtype="float32", shape=[1, 2]), r"\$\.tensors\[7\]: expected a task tensor that the runtime knows \(task\.view_scores\), found 'task\.mood'"),
    "view scores of other views": (add_tensor(name="task.view_scores", role="task", dtype="float32", shape=[1, 3]), r"expected task\.view_scores to be float32\[1, 2\]"),
    "fate of other tokens": (add_tensor(name="fate", role="result", dtype="int64", shape=[1, 7]), r"expected fate to be int64\[1, 8\]"),
    "ages of other tokens": (add_tensor(name="encoded_ages", role="result", dtype="int64", shape=[1, 7]), r"expected encoded_ages to be int64\[1, 8\]"),
    "scores from a robot's bundle": (add_tensor(name="view_scores", role="result", dtype="float32", shape=[1, 2]), r"expected a result tensor that the runtime knows \(actions, kept, fate, encoded_ages\)"),
    "kind unknown": (set_at("kind", to="oracle"), r"\$\.kind: expected one of 'control', 'scorer', 'answer', found 'oracle'"),
    "no action names": (set_at("action", to={"names": [], "units": [], "chunk": 1, "control_hz": 1, "convention": "none"}), r"\$\.action: missing or empty"),
    "gate of no chunk": (set_at("policy", "gate", to={"window": 0, "look_back": 2}), r"\$\.policy\.gate: expected window and look_back in 1\.\.1000, found 0 and 2"),
    "gate without end": (set_at("policy", "gate", to={"window": 3, "look_back": 1 << 40}), r"\$\.policy\.gate: expected window and look_back in"),
    "gate half written": (set_at("policy", "gate", to={"window": 3}), r"\$\.policy\.gate\.look_back: missing key"),
    "camera cut of nothing": (set_at("policy", "camera_cut", to={"change": 0.0}), r"\$\.policy\.camera_cut: expected change above 0 and at most 1, found 0\.0"),
    "camera cut beyond black to white": (set_at("policy", "camera_cut", to={"change": 1.5}), r"\$\.policy\.camera_cut: expected change above 0"),
    "gate without translation": (gate_with(units=["rad", "1"]), r"\$\.policy\.gate: .* found 'delta_ee' of rad, 1: export without the gate"),
    "gate on a gripper alone": (gate_with(units=["1", "m"]), r"\$\.policy\.gate: .* found 'delta_ee' of 1, m"),
    "gate on actions that become absolute": (gate_with(relative=[True, False]), r"\$\.policy\.gate: expected actions that stay displacements"),
    "gate on absolute actions": (gate_with(convention="absolute_ee"), r"\$\.policy\.gate: .* found 'absolute_ee'"),
    "output to the host": (set_at(*STAGE, "outputs", "actions", to="proprio"), r"outputs\.actions: expected a declared tensor"),
    "actions not written": (pop_at(*STAGE, "outputs", "actions"), "write the result 'actions'"),
    "carry by another name": (set_at(*STAGE, "outputs", to={"actions": "actions", "h": "carry.h"}), r"graph output 'carry\.h\.next'"),
    "carry half written": (add_carry, r"profiles\[0\]\.stages: expected every profile to write every carry or none"),
    "carry not declared": (set_at("carry", to=[]), r"\$\.carry: expected the tensors of role 'carry' \['carry\.h'\], found \[\]"),
    "tensor twice": (set_at("tensors", 1, "name", to="images"), r"\$\.tensors: expected unique"),
    "host tensor unknown": (set_at("tensors", 1, "name", to="depth"), r"\$\.tensors\[1\]: expected a host tensor that the runtime knows"),
    "images of another size": (set_at("tensors", 0, "shape", to=[1, 2, 8, 9, 3]), r"expected images to be uint8\[1, 2, 8, 8, 3\]"),
    "dtype unknown": (set_at("tensors", 0, "dtype", to="bfloat16"), r"\$\.tensors\[0\]: tensor 'images': expected a dtype"),
    "axis without a name": (set_at("tensors", 0, "dims", to=["batch"]), "a name for each of 5 axes"),
    "free axis": (set_at("tensors", 0, "shape", to=[1, -1, 8, 8, 3]), "axis 'views' >= 1"),
    "tensor too large": (set_at("tensors", 4, "shape", to=[1 << 20, 1 << 20]), "at most 1073741824 bytes"),
    "views of two sizes": (set_at("views", 0, "height", to=9), r"\$\.views: expected one size"),
    "image too large": (set_at("views", 0, "height", to=1 << 20), r"expected 1\.\.4096 pixels a side"),
    "grid of other views": (set_at("grid", to={"views": 4, "rows": 1, "columns": 2}), r"\$\.grid\.views: expected 2"),
    "sequence disagrees": (set_at("sequence", 1, "tokens", to=7), "expected segment 'visual' with 8 tokens, found 7"),
    "template without place": (set_at("instruction", "template", to="Do it"), r"\$\.instruction: template: expected"),
    "limits of another length": (set_at("limits", to={"low": [0], "high": [1], "max_change": [1]}), r"\$\.limits: expected 2 numbers"),
    "limits upside down": (set_at("limits", "low", to=[1, 0]), r"\$\.limits: expected low < high"),
    "no change allowed": (set_at("limits", "max_change", to=[0, 1]), "max_change > 0"),
    "unit missing": (set_at("action", "units", to=["m"]), r"\$\.action: expected one unit for each"),
    "warm-up negative": (set_at("policy", "warmup_steps", to=-1), r"\$\.policy: expected warmup_steps"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_parts_that_do_not_fit_are_refused(value: Json, case: str) -> None:
    change, message = BROKEN[case]
    change(value)
    with pytest.raises(errors.ManifestError, match=message):
        manifest_from_json(json.dumps(value))


@pytest.mark.parametrize("ratio", [1e-6, 0.3, 0.99])
def test_a_budget_need_not_be_the_share_that_survives(value: Json, ratio: float) -> None:
    value["profiles"][1]["keep_ratio"] = ratio
    assert manifest_from_json(json.dumps(value)).profile("keep50").keep_ratio == ratio


def test_what_a_bundle_does_not_use_is_not_in_its_file(manifest: Manifest, value: Json) -> None:
    """So a reader of before reads it, and a file of before is read."""
    assert "gate" not in value["policy"] and "kind" not in value
    gated = dataclasses.replace(manifest.policy, gate=GateSpec(3, 2))
    text = manifest_to_json(dataclasses.replace(manifest, policy=gated))
    assert json.loads(text)["policy"]["gate"] == {"window": 3, "look_back": 2}
    assert manifest_from_json(text).policy.gate == GateSpec(3, 2)
    value["policy"]["gate"] = None
    assert manifest_from_json(json.dumps(value)) == manifest
    value["policy"]["camera_cut"] = {"change": 0.25}
    cut = dataclasses.replace(manifest.policy, camera_cut=CameraCutSpec(0.25))
    assert manifest_from_json(json.dumps(value)).policy == cut


def carry_in_a_scorer(value: Json) -> None:
    add_tensor(name="carry.h", role="carry", dtype="float32", shape=[1, 8])(value)
    value["carry"] = [{"name": "carry.h", "initial": 0}]


ACTION = {"names": ["dx"], "units": ["m"], "chunk": 1, "control_hz": 1, "convention": "delta_ee"}
BROKEN_SCORERS: dict[str, tuple[Callable[[Json], None], str]] = {
    "action": (set_at("action", to=ACTION), r"\$\.action: expected none in a bundle that scores views"),
    "statistics": (set_at("statistics", to="tokenizer.json"), r"\$\.statistics: expected none in a bundle that scores views"),
    "proprioception": (set_at("proprio", to={"names": ["x"], "units": ["m"]}), r"\$\.proprio: expected none in a bundle that scores views"),
    "carry": (carry_in_a_scorer, r"\$\.carry: expected none in a bundle that scores views"),
    "gate": (set_at("policy", "gate", to={"window": 3, "look_back": 2}), r"\$\.policy\.gate: expected actions that are displacements .* found 'none' of nothing"),
    "scores not written": (set_at("profiles", 0, "stages", 0, "outputs", to={}), "write the result 'view_scores'"),
    "scores of other views": (set_at("tensors", 2, "shape", to=[1, 3]), r"expected view_scores to be float32\[1, 2\]"),
    "actions instead": (set_at("tensors", 2, "name", to="actions"), r"expected a result tensor that the runtime knows \(view_scores\), found 'actions'"),
    "task tensor": (add_tensor(name="task.view_scores", role="task", dtype="float32", shape=[1, 2]), "expected a task tensor that the runtime knows"),
    "control after all": (pop_at("kind"), r"\$\.action: missing or empty; expected it in a bundle that controls a robot"),
}  # fmt: skip


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_scorer_manifest(write_tiny_scorer(tmp_path_factory.mktemp("manifest") / "scorer"))


def test_a_scorer_says_nothing_of_actions(scorer: Manifest) -> None:
    text = manifest_to_json(scorer)
    assert manifest_from_json(text) == scorer
    assert not {"action", "limits", "statistics", "statistics_key"} & json.loads(text).keys()
    assert json.loads(text)["kind"] == "scorer"


@pytest.mark.parametrize("case", BROKEN_SCORERS)
def test_a_scorer_is_refused_what_only_a_robot_needs(scorer: Manifest, case: str) -> None:
    change, message = BROKEN_SCORERS[case]
    value = json.loads(manifest_to_json(scorer))
    change(value)
    with pytest.raises(errors.ManifestError, match=message):
        manifest_from_json(json.dumps(value))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format_version": true}', '{"format_version": "1"}', "{" * 100_000]
)
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(errors.ManifestError):
        manifest_from_json(text)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(manifest: Manifest, constant: str) -> None:
    text = manifest_to_json(manifest).replace('"control_hz": 20.0', f'"control_hz": {constant}')
    with pytest.raises(errors.ManifestError):
        manifest_from_json(text)


def test_a_key_that_comes_twice_is_refused(manifest: Manifest) -> None:
    text = manifest_to_json(manifest).replace('"name": "tiny"', '"name": "tiny", "name": "other"')
    with pytest.raises(errors.ManifestError, match="'name' appears twice"):
        manifest_from_json(text)


def test_a_manifest_made_by_hand_keeps_the_rules_too(manifest: Manifest) -> None:
    with pytest.raises(errors.ManifestError, match="statistics"):
        dataclasses.replace(manifest, statistics="elsewhere.json")
    with pytest.raises(errors.BundleVersionError):
        dataclasses.replace(manifest, format_version=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)


@given(wild=json_values, data=st.data())
def test_wild_values_anywhere_never_escape_as_another_error(
    manifest: Manifest, wild: Any, data: st.DataObject
) -> None:
    value = json.loads(manifest_to_json(manifest))
    path = data.draw(st.sampled_from(paths_of(value)))
    parent_of(value, path)[path[-1]] = wild
    try:
        found = manifest_from_json(json.dumps(value))
    except errors.BundleError:
        return
    assert manifest_from_json(manifest_to_json(found)) == found


@given(st.text(max_size=20) | st.from_regex(r"(\.\.|\.|a|/|\\|C:){1,6}", fullmatch=True))
def test_a_path_that_is_accepted_stays_within(text: str) -> None:
    try:
        bundle_path(text, "$")
    except errors.ManifestError:
        return
    root = Path("/bundle")
    assert (root / text).resolve().is_relative_to(root)
    assert Path(text).as_posix() == text
