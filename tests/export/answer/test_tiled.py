"""Tiled pictures and videos to a bundle to an answer: transformers' own generate is the oracle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from saccade.export.answer.pipeline import AnsweringRequest, export_answering
from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillStep
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError, ImageError, PolicyError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import ViewSpec
from saccade.runtime.answering.answerer import Answerer, by_view
from saccade.runtime.answering.question import Question
from saccade.runtime.bundle import Bundle
from saccade.runtime.commands.main import main
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from tests.export.families import chat_checkpoints
from tests.export.families.llava.test_next import PROCESSOR
from tests.export.families.llava.test_onevision import PROCESSOR as HALVES
from tests.export.families.published import normalised, pictures
from tests.export.inspection.agreement import check_agreement

QUESTIONS = ("What is on the table?", "Go.")


@pytest.fixture(scope="module")
def next_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoints.write_next(tmp_path_factory.mktemp("published") / "next-tiny")


@pytest.fixture(scope="module")
def onevision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoints.write_onevision(tmp_path_factory.mktemp("published") / "onevision", most=1)


def answers(bundle: Bundle, seen: Sequence[NDArray[np.uint8]], profile: str = "full") -> list[list[int]]:
    with OrtBackend(threads=1) as backend:
        answerer = Answerer(ProgramExecutor(bundle, backend), profile=profile)
        named = by_view(bundle.manifest, seen)
        return [
            [piece.token for piece in answerer.answer(Question(question, named))] for question in QUESTIONS
        ]


def test_the_commands_answer_about_tiled_pictures_as_the_published_class(
    next_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "next"
    options = ["--policy", "fastv", "--keep", "1.0,0.25", "--image-size", "47x33", "--max-text-tokens", "32"]
    ran = CliRunner().invoke(
        main,
        [
            "export-answering",
            str(next_folder),
            "--out",
            str(out),
            *options,
            "--max-new-tokens",
            "4",
            "--json",
        ],
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert {name: found["keep"] for name, found in report["profiles"].items()} == {"full": 64, "keep25": 16}
    assert (report["visual_tokens"], report["license"], report["bundle"]) == (64, "Apache-2.0", str(out))
    assert report["bytes"] == sum(
        path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != "manifest.json"
    )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["license"] == "Apache-2.0" and manifest["answer"]["picture_fit"]["method"] == "tile"
    told = []
    for height, width in ((33, 47), (66, 94)):  # the same tiles, other pixels
        image = pictures(1, height, width)[0]
        Image.fromarray(image).save(tmp_path / "seen.png")
        asked = ["ask", str(out), QUESTIONS[0], "--image", str(tmp_path / "seen.png"), "--json"]
        found = CliRunner().invoke(main, asked)
        assert found.exit_code == 0, found.output
        expected = chat_checkpoints.next_answer(next_folder, [image], QUESTIONS[0], 4)
        told.append(json.loads(found.output)["tokens"])
        assert told[-1] == expected
        assert CliRunner().invoke(main, [*asked, "--profile", "keep25"]).exit_code == 0
    assert told[0] != told[1]
    Image.fromarray(pictures(1, 47, 33)[0]).save(tmp_path / "seen.png")
    refused = CliRunner().invoke(main, asked)
    assert refused.exit_code == 1 and "tiled as 47x33 pixels are, found 33x47" in refused.output


def test_answers_about_frames_are_those_of_the_published_class(
    onevision_folder: Path, tmp_path: Path
) -> None:
    request = AnsweringRequest(
        checkpoint=onevision_folder,
        out=tmp_path / "video",
        policy="visionzip",
        keep_ratios=(1.0, 0.5),
        frames=4,
        max_text_tokens=40,
        max_new_tokens=4,
    )
    export_answering(request, lambda what: None)
    bundle = Bundle.open(tmp_path / "video")
    assert bundle.manifest.answer is not None and bundle.manifest.answer.video is not None
    assert bundle.manifest.license == "LicenseRef-tongyi-qianwen"
    check_agreement(onevision_folder, bundle.root, frames=4, text_tokens=40, new_tokens=4)
    seen = [pictures(12, 27, 27)[number] for number in bundle.manifest.answer.video.indices(12)]
    expected = [
        chat_checkpoints.onevision_answer(onevision_folder, seen, question, 4, is_video=True)
        for question in QUESTIONS
    ]
    assert answers(bundle, seen) == expected
    assert all(len(answer) >= 1 for answer in answers(bundle, seen, "keep50"))
    with pytest.raises(ImageError, match="expected 4 frames, as 'onevision' was exported for, found 3"):
        by_view(bundle.manifest, seen[:3])


def kept_by(prompted: Prompted, tiles: NDArray[np.uint8], keep: int) -> list[int]:
    """Which visual tokens survive that the tower's last block attends to most."""
    last = len(prompted.model.towers[0].blocks) - 1
    built = build_policy("vtc_cls", {"first_block": last}, model_shape(prompted.model))
    step = PrefillStep(prompted.model, built, keep, new_tokens=1).eval()
    _, ids, mask = prompted.example()
    with torch.no_grad():
        kept: list[int] = step(torch.from_numpy(tiles)[None], ids, mask)[1][0].tolist()
    return kept


def tiles_of(prompted: Prompted, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return fit_picture(image, ViewSpec("image0", *prompted.image_size), prompted.picture_fit)


def test_attention_of_a_tower_follows_patches_to_where_their_tokens_stand(next_folder: Path) -> None:
    """LLaVA-NeXT: the class token's attention in transformers' tower, packed as its class packs features."""
    prompted = read_prompted(next_folder, Deployment(image_size=(33, 47)))
    tiles = tiles_of(prompted, pictures(1, 33, 47)[0])
    theirs = transformers.LlavaNextForConditionalGeneration.from_pretrained(
        next_folder, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        seen = theirs.model.vision_tower(normalised(tiles, PROCESSOR), output_attentions=True)
    row = seen.attentions[len(prompted.model.towers[0].blocks) - 1][:, :, 0, 1:]  # tiles, heads, patches
    received = (row / row.sum(dim=-1, keepdim=True)).mean(dim=1)
    packed, _ = theirs.model.pack_image_features(
        [received[:, :, None]], torch.tensor([[33, 47]]), "default", image_newline=torch.tensor([-1.0])
    )
    scores = packed[0][:, 0]
    expected = scores[scores >= 0].topk(13).indices.tolist()
    assert kept_by(prompted, tiles, 13) == sorted(expected)


def test_attention_of_a_tower_is_pooled_as_tokens_are(onevision_folder: Path) -> None:
    """LLaVA-OneVision with a picture of too many tokens: all patches' attention, interpolated by torch."""
    prompted = read_prompted(onevision_folder, Deployment(image_size=(70, 90)))
    tiles = tiles_of(prompted, pictures(1, 70, 90)[0])
    theirs = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
        onevision_folder, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        seen = theirs.model.vision_tower(normalised(tiles, HALVES), output_attentions=True)
    received = seen.attentions[-1].mean(dim=(1, 2)).flatten()
    config: Any = prompted.model.config
    taken = received[list(config.tiles.patches)]
    picture = taken[25:].reshape(1, 1, *config.tiles.grid)
    pooled = F.interpolate(picture, size=config.blocks[1], mode="bilinear").flatten()
    expected = torch.cat([taken[:25], pooled]).topk(9).indices.tolist()
    assert kept_by(prompted, tiles, 9) == sorted(expected)


def test_what_needs_rows_and_columns_is_refused_where_tokens_tile_no_grid(
    next_folder: Path, onevision_folder: Path
) -> None:
    tiled = model_shape(read_prompted(next_folder, Deployment(image_size=(33, 47))).model)
    frames = model_shape(read_prompted(onevision_folder, Deployment(frames=2)).model)
    for name in ("center_crop", "quota"):
        with pytest.raises(PolicyError, match=f"policy '{name}.* found 64 that tile no grid"):
            build_policy(name, {}, tiled)
        build_policy(name, {}, frames)
    build_policy("quota", {"form": "flat"}, tiled)


def test_what_needs_patches_as_they_are_is_refused_where_they_are_not(
    next_folder: Path, onevision_folder: Path
) -> None:
    for folder, deployment, fits in (
        (next_folder, Deployment(image_size=(33, 47)), False),
        (onevision_folder, Deployment(frames=2), False),
        (onevision_folder, Deployment(views=3), True),
    ):
        model = read_prompted(folder, deployment).model
        for name in ("vflowopt", "zero_tprune"):
            policy = build_policy(name, {}, model_shape(model))
            if fits:
                PrefillStep(model, policy, model.grid.tokens // 2 // 3 * 3, new_tokens=1)
                continue
            with pytest.raises(ExportError, match="rearranged or pooled"):
                PrefillStep(model, policy, model.grid.tokens // 2, new_tokens=1)
