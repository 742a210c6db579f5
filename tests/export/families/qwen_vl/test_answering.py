"""Qwen-VL from published files through both commands, against transformers' own generate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from saccade.export.families.qwen_vl import qwen2_5 as qwen2_5_vl
from saccade.export.families.qwen_vl import qwen3 as qwen3_vl
from saccade.runtime.answering.video import read_video
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.main import main
from tests.export.families.published import pictures
from tests.export.families.qwen_published import (
    IM_END,
    PAD,
    QUESTIONS,
    marked,
    prompt_ids,
    publish,
    tokenizer,
)
from tests.export.families.qwen_reference import IMAGE, VIDEO, resized, still_inputs, video_inputs
from tests.export.families.qwen_vl import test_qwen2_5 as test_qwen2_5_vl
from tests.export.families.qwen_vl import test_qwen3 as test_qwen3_vl
from tests.export.inspection.agreement import check_agreement
from tests.runtime.answering.test_video import SIZE, write_video

NEW, RATE = 5, 2.0
FAMILIES = {"qwen2_5_vl": test_qwen2_5_vl, "qwen3_vl": test_qwen3_vl}
SMALL: dict[str, dict[str, Any]] = {"qwen2_5_vl": {"layers": 2}, "qwen3_vl": {"layers": 2, "deep": (0, 2)}}


def run(*arguments: str) -> str:
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


@torch.no_grad()
def expected(theirs: Any, family: str, question: str, shown: list[str], made: dict[str, Any]) -> list[int]:
    """Greedy ids of the published class.

    Args:
        theirs: The model.
        family: ``model_type``.
        question: Text.
        shown: What stands for each picture or video in the prompt.
        made: What the reference's processor makes of them.
    """
    ids = prompt_ids(family, question, shown)
    answer = theirs.generate(
        **made,
        input_ids=ids,
        mm_token_type_ids=(ids == IMAGE).long() + 2 * (ids == VIDEO).long(),
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=[IM_END, PAD],
        pad_token_id=PAD,
    )
    found: list[int] = answer[0, ids.shape[1] :].tolist()
    return found


def about_pictures(theirs: Any, family: str, question: str, cameras: list[Any]) -> list[int]:
    """What it answers about pictures as they come."""
    made = [still_inputs(picture[None], FAMILIES[family].PROCESSOR) for picture in cameras]
    inputs = {name: torch.cat([one[name] for one in made]) for name in made[0]}
    shown = [marked("<|image_pad|>" * int(grid.prod() // 4)) for grid in inputs["image_grid_thw"]]
    return expected(theirs, family, question, shown, inputs)


def about_video(theirs: Any, family: str, question: str, frames: Any) -> list[int]:
    """What it answers about the frames of a video, ``RATE`` of them a second."""
    made: dict[str, Any] = video_inputs(frames[None], FAMILIES[family].PROCESSOR)
    clips, rows, columns = made["video_grid_thw"][0].tolist()
    tokens = "<|video_pad|>" * (rows * columns // 4)
    if family == "qwen2_5_vl":
        made["second_per_grid_ts"] = torch.tensor([2 / RATE])
        return expected(theirs, family, question, [marked(tokens * clips)], made)
    times = Qwen3VLProcessor._calculate_timestamps(None, list(range(len(frames))), RATE)
    shown = "".join(f"<{time:.1f} seconds>" + marked(tokens) for time in times)
    return expected(theirs, family, question, [shown], made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "policy", "options", "views", "camera"),
    [
        ("qwen2_5_vl", "fastv", ["insertion_layer=1"], 1, (27, 43)),
        ("qwen2_5_vl", "divprune", [], 2, (40, 31)),
        ("qwen3_vl", "fastv", ["insertion_layer=1"], 2, (31, 40)),
        ("qwen3_vl", "divprune", [], 1, (16, 100)),
    ],
)
def test_the_commands_answer_as_the_published_class_does(
    tmp_path: Path, family: str, policy: str, options: list[str], views: int, camera: tuple[int, int]
) -> None:
    theirs = FAMILIES[family].reference(**SMALL[family])
    folder, out = publish(theirs, tmp_path / "published", FAMILIES[family].PROCESSOR), tmp_path / "bundle"
    chosen = [f"--policy-option={option}" for option in options]
    size = f"--image-size={camera[1]}x{camera[0]}"
    rooms = ["--max-text-tokens=20", f"--max-new-tokens={NEW}", f"--views={views}"]
    run(
        *("export-answering", str(folder), "--out", str(out), "--policy", policy, *chosen, "--keep=1.0,0.5"),
        *(size, *rooms),
    )
    for seed, question in enumerate(QUESTIONS[:2]):
        came = list(pictures(views, *camera, seed))
        images = []
        for number, picture in enumerate(came):
            path = tmp_path / f"{seed}.{number}.png"
            Image.fromarray(picture).save(path)
            images += ["--image", str(path)]
        found = json.loads(run("ask", str(out), question, *images, "--json"))
        assert found["tokens"] == about_pictures(theirs, family, question, came)
    pruned = json.loads(run("ask", str(out), question, *images, "--profile=keep50", "--json"))
    assert 1 <= len(pruned["tokens"]) <= NEW
    other = tmp_path / "other.png"
    Image.fromarray(pictures(1, camera[1], camera[0])[0]).save(other)
    refused = CliRunner().invoke(main, ["ask", str(out), "w1", *["--image", str(other)] * views])
    assert refused.exit_code == 1 and f"about the aspect of {camera[1]}x{camera[0]}, found" in refused.output
    receipts = json.loads((out / "receipts" / "parity.json").read_text(encoding="utf-8"))["profiles"]
    for receipt in receipts.values():
        assert receipt["max_error"] < 1e-4 and receipt["same_tokens"] == receipt["same_kept"] == 1.0
    assert receipts["full"]["change"] == 0.0 < receipts["keep50"]["change"]
    fixed = {"image_size": camera, "views": views, "text_tokens": 20, "new_tokens": NEW}
    check_agreement(folder, out, is_default=not options, **fixed)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "frames"), [("qwen2_5_vl", 5), ("qwen3_vl", 4)])
def test_a_video_file_is_answered_as_the_published_class_does(
    tmp_path: Path, family: str, frames: int
) -> None:
    theirs = FAMILIES[family].reference(**SMALL[family])
    folder, out = publish(theirs, tmp_path / "published", FAMILIES[family].PROCESSOR), tmp_path / "bundle"
    rooms = ["--max-text-tokens=20", f"--max-new-tokens={NEW}"]
    timing = [f"--frames={frames}", f"--frames-per-second={RATE}", f"--image-size={SIZE[1]}x{SIZE[0]}"]
    run("export-answering", str(folder), "--out", str(out), *timing, *rooms)
    answer = Bundle.open(out).manifest.answer
    assert answer is not None
    for length, question in ((frames * 5, QUESTIONS[0]), (frames * 5 + 3, QUESTIONS[2])):
        path = write_video(tmp_path / f"{length}.mp4", length)
        wanted = [number * length // frames for number in range(frames)]
        whole = [frame.pixels for frame in read_video(path, range)]
        taken = resized(np.stack([whole[number] for number in wanted]), answer.picture_fit.size)
        found = json.loads(run("ask", str(out), question, "--video", str(path), "--json"))
        assert found["tokens"] == about_video(theirs, family, question, taken)
    longer = CliRunner().invoke(
        main, ["ask", str(out), "w1", "--video", str(write_video(tmp_path / "longer.mp4", 60))]
    )
    seconds = f"{frames / RATE:.2f}"
    assert longer.exit_code == 1 and f"expected a video of {seconds} s, for the model" in longer.output
    picture = CliRunner().invoke(main, ["ask", str(out), "w1", "--image", str(path)])
    assert picture.exit_code == 1 and f"expected {frames} frames" in picture.output


@pytest.mark.parametrize(("module", "family"), [(qwen2_5_vl, "qwen2_5_vl"), (qwen3_vl, "qwen3_vl")])
@pytest.mark.parametrize("views", [1, 2])
def test_a_checkpoint_without_a_template_is_asked_as_the_published_one_is(
    module: Any, family: str, views: int
) -> None:
    content = [{"type": "image"}] * views + [{"type": "text", "text": "{instruction}"}]
    written = tokenizer(family).apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    own = module.prompt(views)
    for placeholder in module.PLACEHOLDERS:
        written = written.replace(placeholder, "<image>")
    assert own == written
