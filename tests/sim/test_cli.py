"""``saccade sim`` as a person types it, in a real process, and every way in which it says no."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageSequence

from saccade.proto.closed_loop import Outcomes
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.main import main
from saccade.sim import seeds
from saccade.sim.cli import bundled_mini, sim
from saccade.sim.tabletop.tables import BUNDLED


def saccade(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", "from saccade.runtime.commands.main import main; main()"]
        + [str(argument) for argument in arguments],
        env={**os.environ, "COLUMNS": "100", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_a_bundle_is_run_through_the_daemon(bundle: Path, tmp_path: Path) -> None:
    """Without the word `run`, as the README has it."""
    found = saccade(
        "sim", copytree(bundle, tmp_path / "own"), "--episodes", 1, "--keep", "1.0", "--receipt", "--json", "out.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "full" in found.stdout and "0/1" in found.stdout
    results = json.loads((tmp_path / "out.json").read_text())
    assert (results["transport"], results["bundle"]["name"]) == ("grpc", "colourful")
    assert [cell["outcomes"] for cell in results["cells"]] == ["0"] * 5
    receipt = Bundle.open(tmp_path / "own").manifest.closed_loop
    assert receipt is not None and receipt.settings["seeds"] == [0, 1]
    assert receipt.outcomes == {"full": dict.fromkeys(BUNDLED.templates, Outcomes(0, 1))}


def test_a_recorded_episode_shows_what_was_dropped(bundle: Path, tmp_path: Path) -> None:
    found = saccade(
        "sim", bundle, "--tasks", "reach,push,stack", "--episodes", 1, "--execute", 8, "--record", "seen.webp",
        cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "recorded: seen.webp" in found.stdout
    with Image.open(tmp_path / "seen.webp") as picture:
        assert picture.format == "WEBP"
        looks = [np.asarray(frame.convert("L"), float).mean() for frame in ImageSequence.Iterator(picture)]
    assert len(looks) > 4, "frames that do not differ are shown as one"
    assert min(looks[:2]) > max(looks[2:]) + 20, "darker once the warm-up is over"


def test_json_on_stdout_is_only_json(bundle: Path, tmp_path: Path) -> None:
    found = saccade(
        "sim", "run", bundle, "--tasks", "reach", "--episodes", 1, "--profile", "keep25", "--in-process",
        "--wrong-instruction", "--execute", 8, "--time", "live", "--latency-ms", 100, "--json", "-",
        cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    results = json.loads(found.stdout)
    assert results["is_told_wrong"] and results["execute"] == 8 and results["transport"] == "in-process"
    assert results["time"] == {"is_live": True, "latency_ms": 100.0}
    assert results["cells"][0]["control_steps"] == [16], "10 control steps each: 2 to think, 8 to act"


def test_an_arm_moves_on_while_the_daemon_thinks(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.sim.tabletop.world.HORIZON", 40)
    found = CliRunner().invoke(
        main,
        ["sim", "run", str(bundle), "--tasks", "reach", "--episodes", "1", "--profile", "keep25", "--time", "live",
         "--latency-ms", "300", "--motion", "blend", "--watchdog-ms", "250", "--json", "-"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    results = json.loads(found.stdout)
    assert results["motion"] == {"mode": "blend", "watchdog_ms": 250} and results["transport"] == "grpc"
    (figures,) = results["cells"][0]["motion"]
    assert figures["seams"] > 4 and figures["velocity"] > 0.1 and not figures["is_latched"]


def test_a_place_that_cannot_be_written_is_found_before_the_work(bundle: Path, tmp_path: Path) -> None:
    for arguments in (
        ("run", str(bundle), "--json"),
        ("run", str(bundle), "--record"),
        ("demo", "--out"),
        ("expert", "--json"),
    ):
        for place in ("nowhere/out", "n" * 300, "."):
            found = CliRunner().invoke(main, ["sim", *arguments, str(tmp_path / place)])
            assert found.exit_code == 2
            assert "expected a " in found.output and "Traceback" not in found.output
    assert list(tmp_path.iterdir()) == []


def test_the_demo_writes_its_report(bundle: Path, tmp_path: Path) -> None:
    found = saccade(
        "sim", "demo", "--bundle", bundle, "--episodes", 1, "--out", "demo.html", "--json", "demo.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    results = json.loads((tmp_path / "demo.json").read_text())
    assert len(results["cells"]) == 10 and results["bundle"]["name"] == "colourful"
    assert results["time"] == {"is_live": True, "latency_ms": None}
    assert str(tmp_path / "demo.html") in found.stdout.replace("\n", "")
    html = (tmp_path / "demo.html").read_text()
    assert html.count('<figure class="clip">') == 5
    claim = results["claim"]
    assert (claim["profile"], claim["against"], claim["success"]["episodes"]) == ("keep25", "full", 5)
    assert claim["visual_tokens"]["value"] > 72, "the first two steps of an episode are full"
    said = " ".join(found.stdout.split())
    assert said.index(claim["sentence"]) < said.index("task profile success") and claim["sentence"] in html


def test_the_demo_of_one_share_claims_nothing(bundle: Path, tmp_path: Path) -> None:
    found = saccade(
        "sim", "demo", "--bundle", bundle, "--episodes", 1, "--tasks", "reach", "--keep", "0.25", "--time", "waits",
        "--json", "demo.json", cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    results = json.loads((tmp_path / "demo.json").read_text())
    assert results["claim"] is None and results["time"]["is_live"] is False
    assert [cell["control_steps"] for cell in results["cells"]] == [[40]], "160 actions, 4 of each chunk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "BUNDLE", "--tasks", "fly"],
            r"expected tasks out of reach, push, place, stack, intercept, found 'fly'",
        ),
        (["expert", "--tasks", "fly"], r"found 'fly'"),
        (["run", "BUNDLE", "--keep", "0.3"], r"expected a keep ratio that the bundle has"),
        (["run", "BUNDLE", "--profile", "keep9"], r"found 'keep9'"),
        (["run", "BUNDLE", "--seed0", "999999", "--episodes", "2"], r"training starts at 1000000"),
        (["run", "BUNDLE", "--episodes", "0"], r"at least 1 episode"),
        (["run", "BUNDLE", "--execute", "0"], r"at least 1 action"),
        (["run", "BUNDLE", "--time", "live", "--latency-ms", "-1"], r"0 ms or more, found -1 ms"),
        (["run", "BUNDLE", "--receipt", "--wrong-instruction"], r"found the control experiment"),
        (["run", "BUNDLE", "--table", "blocks"], r"out of shapes, found 'blocks'"),
        (["expert", "--table", "kitchen"], r"out of shapes, found 'kitchen'"),
        (["no-such-bundle"], r"found none at no-such-bundle"),
        (["demo", "--bundle", "no-such-bundle"], r"found none at no-such-bundle"),
    ],
)
def test_says_why_it_refuses(bundle: Path, arguments: list[str], message: str) -> None:
    words = [str(bundle) if word == "BUNDLE" else word for word in arguments]
    found = CliRunner().invoke(main, ["sim", *words])
    assert found.exit_code == 1
    assert "Traceback" not in found.output
    assert re.search(message, " ".join(found.output.split()))


def test_bad_numbers_are_wrong_usage(bundle: Path) -> None:
    found = CliRunner().invoke(sim, ["run", str(bundle), "--keep", "half"])
    assert found.exit_code == 2 and "1.0,0.25" in found.output
    found = CliRunner().invoke(sim, ["run", str(bundle), "--latency-ms", "5"])
    assert found.exit_code == 2 and "expected --time live" in found.output
    found = CliRunner().invoke(sim, ["run", str(bundle), "--motion", "blend"])
    assert found.exit_code == 2 and "expected --time live with --motion" in found.output


@pytest.mark.parametrize("backend", ["no-such-backend", "glfw"])
def test_no_graphics_is_said_before_anything_starts(bundle: Path, tmp_path: Path, backend: str) -> None:
    """An impossible back end stands in for a machine without GL libraries; glfw has no screen here."""
    found = saccade("sim", bundle, "--episodes", 1, cwd=tmp_path, MUJOCO_GL=backend, DISPLAY="")
    assert found.returncode == 1
    assert "expected a working OpenGL back end" in found.stderr and "apt-get install libegl1" in found.stderr
    assert "[simulator.graphics]" in found.stderr


def test_missing_gl_libraries_are_named(bundle: Path, tmp_path: Path) -> None:
    """PyOpenGL finds no EGL library, as on a bare machine: the loader is told to look for another name."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
        "import ctypes\nreal = ctypes.CDLL.__init__\n"
        "def load(self, name, *rest, **more):\n"
        "    if name and 'EGL' in str(name):\n"
        "        raise OSError(f'{name}: cannot open shared object file: No such file or directory')\n"
        "    real(self, name, *rest, **more)\n"
        "ctypes.CDLL.__init__ = load\n"
    )
    found = saccade("sim", bundle, "--episodes", 1, cwd=tmp_path, PYTHONPATH=str(tmp_path), MUJOCO_GL="egl")
    assert found.returncode == 1
    assert "apt-get install libegl1" in found.stderr and "[simulator.graphics]" in found.stderr


def test_the_experts_are_rated(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["sim", "expert", "--episodes", "5", "--tasks", "reach,stack"])
    assert found.exit_code == 0
    assert "reach     5/5  100.0%" in found.output and "stack     5/5" in found.output
    found = CliRunner().invoke(main, ["sim", "expert", "--episodes", "5", "--tasks", "reach", "--json"])
    rate = json.loads(found.stdout)["reach"]
    assert (rate["successes"], rate["episodes"], rate["rate"]) == (5, 5, 1.0)
    assert 0.5 < rate["interval"][0] < rate["interval"][1] == 1.0
    out = str(tmp_path / "experts.json")
    found = CliRunner().invoke(main, ["sim", "expert", "--episodes", "5", "--tasks", "reach", "--json", out])
    assert json.loads(Path(out).read_text()) == {"reach": rate} and f"results: {out}" in found.output.replace(
        "\n", ""
    )


def test_the_bundle_that_ships_lies_in_the_package() -> None:
    assert bundled_mini() == Path(seeds.__file__).parent / "saccade_mini" / "bundle"
