"""The worked robots of the page "Your robot in 30 minutes" fit real checkpoints of their family, and its code runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer, models

from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.embodiment import EMBODIMENT_NAME, read_embodiment
from saccade.export.families.registry import load_checkpoint
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from tests.export.families.oft_reference import ReferenceOft, write_published
from tests.export.families.openvla_oft.test_published import write_tokenizer
from tests.export.families.pi_scenes import expert, vlm
from tests.export.families.prismatic_reference import statistics
from tests.export.families.published import randomise

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/your_robot.md"
EXAMPLES = ROOT / "docs/examples"


def place(example: str, checkpoint: Path) -> Path:
    """Put an example beside a checkpoint, as the page says."""
    checkpoint.mkdir(exist_ok=True)
    shutil.copyfile(EXAMPLES / example, checkpoint / EMBODIMENT_NAME)
    return checkpoint


def test_the_page_shows_every_example() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r'^--8<-- "(.*)"$', text, re.MULTILINE) == re.findall(r"\(examples/(.*?)\)", text)
    assert {path.name for path in EXAMPLES.iterdir()} == set(re.findall(r"\(examples/(.*?)\)", text))


def test_the_arm_fits_openvla_oft_as_published(tmp_path: Path) -> None:
    folder = tmp_path / "oft"
    write_published(ReferenceOft(7, 8), folder, {"my_arm": statistics(7, 8)})
    write_tokenizer(folder)
    checkpoint = load_checkpoint(place("seven_dof_arm.json", folder))
    assert checkpoint.embodiment == read_embodiment(CheckpointFolder(folder))
    assert checkpoint.model.action_shape == (8, 7)
    assert not checkpoint.statistics.action.to_json()["mask"][-1]  # the gripper is passed as it is
    assert chunk_ms(checkpoint) == 400
    fastest = checkpoint.embodiment.limits.high[0] * checkpoint.embodiment.action.control_hz
    assert fastest == pytest.approx(0.5)  # m/s, as the page says


def test_two_arms_fit_pi0_as_openpi_converts_it(tmp_path: Path) -> None:
    folder = place("bimanual.json", tmp_path / "pi0")
    write_openpi(folder, chunk=50, width=32)
    checkpoint = load_checkpoint(folder)
    action = checkpoint.embodiment.action
    assert checkpoint.embodiment.proprio.names == action.names  # so that relative actions find their joint
    assert checkpoint.model.action_shape == (50, 14) and checkpoint.model.image_size == (480, 640)
    grippers = [
        name for name, is_relative in zip(action.names, action.relative, strict=True) if not is_relative
    ]
    assert grippers == ["left_gripper", "right_gripper"]
    assert chunk_ms(checkpoint) == 1000
    fastest = checkpoint.embodiment.limits.max_change[0] * action.control_hz
    assert fastest == pytest.approx(2.5)  # rad/s, as the page says


def write_openpi(folder: Path, *, chunk: int, width: int) -> None:
    """Write a tiny π0 with the files of openpi's conversion."""
    config = transformers.PI0Config(
        vlm_config=vlm(1),
        dit_config=expert(1),
        chunk_size=chunk,
        max_state_dim=width,
        max_action_dim=width,
        num_inference_steps=2,
    )
    model = transformers.PI0ForConditionalGeneration(config)
    randomise(model)
    model.eval().save_pretrained(folder)
    stored = json.loads((folder / "config.json").read_text())
    del stored["model_type"], stored["chunk_size"]
    (folder / "config.json").write_text(json.dumps({**stored, "action_horizon": chunk}))
    Tokenizer(models.WordLevel({"<pad>": 0, "<bos>": 2}, "<pad>")).save(str(folder / "tokenizer.json"))
    place_of_statistics = folder / "assets" / "my_robot"
    place_of_statistics.mkdir(parents=True)
    vector = {"mean": [0.0] * width, "std": [1.0] * width}
    content = {"norm_stats": {"state": vector, "actions": vector}}
    (place_of_statistics / "norm_stats.json").write_text(json.dumps(content))


def chunk_ms(checkpoint: Checkpoint[ActingFamily]) -> float:
    """How long a chunk lasts."""
    action = checkpoint.embodiment.action
    return action.chunk / action.control_hz * 1e3


def test_the_code_of_the_page_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    """Recording, then units, on the bundled model and its first recorded frames."""
    text = PAGE.read_text(encoding="utf-8")
    record, units = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (printed,) = re.findall(r"```\n(tcp_x .*?)```", text, re.DOTALL)
    (tmp_path / "my-bundle").symlink_to(ROOT / "sim/saccade_mini/bundle")
    shutil.copyfile(ROOT / "sim/saccade_mini/frames.npz", tmp_path / "recorded.npz")
    given = "import numpy as np\nstored = np.load('recorded.npz')\n"
    given += "images, proprio = stored['images'], stored['proprio']\n"
    script = tmp_path / "page.py"
    script.write_text(given + record + units)
    found = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.stderr) == (printed, "")
    check = "from pathlib import Path; import sys\n"
    check += "from saccade.export.control.frames import read_recording\n"
    check += "from saccade.export.families.registry import load_checkpoint\n"
    check += "print(len(read_recording(Path('frames.npz'), load_checkpoint(Path(sys.argv[1])))))\n"
    mini = str(ROOT / "sim/saccade_mini/checkpoint")
    found = subprocess.run(
        [sys.executable, "-c", check, mini], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.stderr) == ("32\n", "")
