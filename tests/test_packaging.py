"""The wheel, really built: what is in it, what it asks for, and a base install that drives a real daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from saccade.proto.distribution import DISTRIBUTION, VERSION
from saccade.runtime.daemon import Daemon, DaemonConfig
from tests.tiny_bundle import CHUNK, write_tiny_bundle

ROOT = Path(__file__).parents[1]
FOLDERS = ("proto", "policies", "export", "runtime", "sim")
BASE = {"grpcio", "numpy", "protobuf"}
NOT_IN_BASE = (
    "PIL", "av", "click", "grpc_health", "grpc_reflection", "jaxtyping", "mujoco", "onnx", "onnxruntime", "rich",
    "tokenizers", "torch", "zmq",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel out of a copy of the tree; whatever a build tool warns of is an error."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    found = subprocess.run(
        [*command, "--verbose", "--wheel-dir", str(folder), str(copy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.findall(r"\w*Warning: .*", found.stdout + found.stderr) == []
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"saccade_vla-{VERSION}.dist-info/METADATA").decode())


def of_tree(pattern: str) -> Iterator[str]:
    """Paths that the files of the tree have in the wheel."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob(pattern):
            yield f"saccade/{path.relative_to(ROOT).as_posix()}"


def test_every_module_of_the_tree_is_in_it(names: set[str]) -> None:
    assert {name for name in names if name.endswith(".py")} == set(of_tree("*.py"))


def test_it_holds_the_data_that_the_code_reads(names: set[str]) -> None:
    data = {name for name in names if name.startswith("saccade/") and not name.endswith(".py")}
    types = {*of_tree("py.typed"), *of_tree("*.pyi"), *of_tree("*.proto")}
    assert {f"saccade/{folder}/py.typed" for folder in FOLDERS} <= types
    report = {f"saccade/sim/report/page.{kind}" for kind in ("css", "html", "js")}
    bundle = ROOT / "sim/saccade_mini/bundle"
    files = {f"saccade/{path.relative_to(ROOT).as_posix()}" for path in bundle.rglob("*") if path.is_file()}
    assert data == types | report | files | {"saccade/sim/saccade_mini/MODEL_CARD.md"}
    assert any(name.startswith(f"saccade_vla-{VERSION}.dist-info/licenses/LICENSE") for name in names)


def test_the_base_asks_for_three_packages(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == (DISTRIBUTION, VERSION)
    asked = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[<>=!~ ;\[]", line)[0] for line in asked} == BASE


def test_every_extra_that_a_message_names_exists(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    named = {
        extra
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for call in re.findall(r"install_hint\(([^)*]*)\)", path.read_text())
        for extra in re.findall(r"['\"]([a-z-]+)['\"]", call)
    }
    assert {"export", "serve", "sim", "video", "zmq"} <= named <= extras


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Python as on a machine that installed the wheel and nothing but the three packages it asks for."""
    site = tmp_path_factory.mktemp("site")
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    prelude = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_BASE!r}))\n"
        # No finder of an editable install, and the wheel before everything else.
        "sys.meta_path[:] = [finder for finder in sys.meta_path if '__editable__' not in repr(finder)]\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        f"import saccade.proto; assert saccade.proto.__file__.startswith({str(site)!r}), saccade.proto.__file__\n"
    )
    return [sys.executable, "-W", "error", "-c", prelude]


def run(base: list[str], script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script on the base install, away from the tree."""
    command = [*base[:-1], base[-1] + script]
    return subprocess.run(
        command, cwd=cwd, env={"PATH": ""}, capture_output=True, text=True, check=False, timeout=60
    )


CLIENT = """
import sys
import numpy as np
from saccade.proto.errors import SaccadeError
from saccade.runtime.client import Client
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.observation import Observation

grpc, zmq = sys.argv[1:]
with Client(grpc) as client, client.open() as session:
    manifest = client.describe().manifest
    session.reset("push the red cube")
    images = {view.name: np.zeros((view.height, view.width, 3), np.uint8) for view in manifest.views}
    proprio = np.zeros(len(manifest.proprio.names), np.float32)
    chunk = session.act(Observation(images, proprio, monotonic_ns(), 1))
    assert np.isfinite(chunk.actions).all()
    print(*chunk.actions.shape)
    try:
        client.answerer()
    except SaccadeError as error:
        print(error.code)
try:
    Client(zmq, transport="zmq")
except SaccadeError as error:
    print(error.message)
"""


def test_the_base_drives_a_real_daemon(base: list[str], tmp_path: Path) -> None:
    config = DaemonConfig(
        write_tiny_bundle(tmp_path / "tiny"),
        bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1, max_age_ns=0,
    )  # fmt: skip
    with Daemon(config) as daemon:
        arguments = f"sys.argv[1:] = [{daemon.address!r}, {daemon.zmq_address!r}]\n"
        found = run(base, arguments + CLIENT, tmp_path)
        assert found.returncode == 0, found.stderr
    shape, code, zmq = found.stdout.splitlines()
    assert shape == f"{CHUNK} 2"
    assert code == "question"
    assert "pip install 'saccade-vla[zmq]'" in zmq


def test_the_program_of_the_base_says_what_to_install(base: list[str], tmp_path: Path) -> None:
    found = run(base, "from saccade.runtime.console_script import main; main()", tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert "found no click: pip install 'saccade-vla[serve]'" in line
