"""A generating checkpoint to a bundle to an answer: the runtime against transformers' own generate."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig

from saccade.export.answer import parity as answering_parity
from saccade.export.answer.pipeline import AnsweringRequest, export_answering
from saccade.export.bundle.graph_session import GraphSession
from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import read_prompted
from saccade.export.lowering.capture import GraphPorts
from saccade.proto.errors import (
    BundleError,
    CheckpointError,
    ImageError,
    InstructionError,
    PolicyError,
    QuestionError,
    ReceiptError,
)
from saccade.proto.inspection import CutPlace
from saccade.proto.manifest import Manifest
from saccade.proto.strict_json import from_json, to_json
from saccade.runtime.answering.answerer import Answerer
from saccade.runtime.answering.question import Question
from saccade.runtime.answering.sampling import Sampling
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import Client
from saccade.runtime.commands.main import main
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.inspection.bundle import inspect_bundle
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.query_objects import decouple, picture_question
from saccade.runtime.session import Session
from tests.export.families.llava.test_llava import IMAGE_ID, PROCESSOR, reference
from tests.export.families.published import normalised, pictures, save
from tests.export.inspection.agreement import check_agreement
from tests.tiny_bundle import GRID, tiny_observation, tiny_step, write_tiny_bundle

SAID = {
    60: "yes",
    61: "Yes",
    62: "robot",
    63: "told:",
    64: "picture",
    65: "show",
    66: "Name",
    67: "Keep",
    68: "any",
}
"""Words of the questions that score views."""
WORDS = [
    *("<pad>", "<s>", "</s>", "USER:", "ASSISTANT:"),
    *(SAID.get(number, f"w{number}") for number in range(85)),
    "<image>",
]
QUESTIONS = ("w3 w4 w80", "w9", "w1 w2 w3 w4 w5 w6")
Said = list[list[int]]


def write_tokenizer(folder: Path) -> Tokenizer:
    """One token for each word, spaces between: enough to see where text and pictures meet."""
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<image>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save(reference(), tmp_path_factory.mktemp("published") / "llava-tiny", PROCESSOR)
    write_tokenizer(path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    return path


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "answers"
    request = AnsweringRequest(
        checkpoint=folder,
        out=out,
        policy="center_crop",
        options={"insertion_layer": 1},
        keep_ratios=(1.0, 0.25),
        max_text_tokens=90,
        max_new_tokens=6,
    )
    export_answering(request, lambda what: None)
    return Bundle.open(out)


@pytest.fixture
def answerer(bundle: Bundle) -> Iterator[Answerer]:
    with OrtBackend(threads=1) as backend:
        yield Answerer(ProgramExecutor(bundle, backend))


class Published:
    """The published class with its own generation settings, asked through its own tokens."""

    def __init__(self, folder: Path) -> None:
        self.model = reference()
        self.model.generation_config = GenerationConfig.from_pretrained(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def inputs(self, question: str, image: np.ndarray) -> dict[str, torch.Tensor]:
        before = self.tokenizer.encode("USER: ").ids
        behind = self.tokenizer.encode(f"\n{question} ASSISTANT:").ids
        ids = torch.tensor([[*before, *[IMAGE_ID] * 16, *behind]])
        pixels = normalised(image[None], PROCESSOR)
        return {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}

    @torch.no_grad()
    def answer(self, question: str, image: np.ndarray) -> list[int]:
        inputs = self.inputs(question, image)
        found = self.model.generate(**inputs, max_new_tokens=6)
        tokens: list[int] = found[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens

    @torch.no_grad()
    def probability(self, words: tuple[str, ...], question: str, image: np.ndarray) -> float:
        logits = self.model(**self.inputs(question, image)).logits[0, -1]
        return float(torch.softmax(logits, 0)[[WORDS.index(word) for word in words]].sum())


def test_views_are_scored_as_by_the_published_class(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    """The objects that it names of a black picture, and the probability with which it then says yes."""
    theirs, instruction = Published(folder), "w3 the robot to w4"
    black, shown = np.zeros((20, 20, 3), np.uint8), pictures(2, 20, 20)
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path, picture in zip(paths, shown, strict=True):
        Image.fromarray(picture).save(path)
    objects = decouple(instruction, lambda asked: theirs.tokenizer.decode(theirs.answer(asked, black)))
    arguments = [f"--image={path}" for path in paths]
    found = CliRunner().invoke(main, ["score-views", str(bundle.root), instruction, *arguments, "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["objects"] == list(objects) and objects
    assert [score["image"] for score in said["scores"]] == paths
    question = picture_question(instruction, objects)
    for score, picture in zip(said["scores"], shown, strict=True):
        assert score["score"] == pytest.approx(
            theirs.probability(("yes", "Yes"), question, picture), rel=1e-4
        )


def test_greedy_answers_are_those_of_the_published_class(folder: Path, answerer: Answerer) -> None:
    theirs = Published(folder)
    tokenizer = theirs.tokenizer
    for seed, (question, expected) in enumerate(zip(QUESTIONS, answers(theirs), strict=True)):
        image = pictures(1, 20, 20, seed)
        pieces = list(answerer.answer(Question(question, {"image0": image[0]})))
        assert [piece.token for piece in pieces] == expected
        assert [piece.is_last for piece in pieces] == [False] * (len(expected) - 1) + [True]
        shown = [token for token in expected if token != 2]
        assert "".join(piece.text for piece in pieces).split() == tokenizer.decode(shown).split()


def answers(theirs: Published) -> Said:
    """Return what the published class answers to each question about a picture of its own."""
    return [theirs.answer(question, pictures(1, 20, 20, seed)[0]) for seed, question in enumerate(QUESTIONS)]


SETTINGS: dict[str, Callable[[Said], dict[str, Any]]] = {
    "a penalty": lambda _: {"repetition_penalty": 1.5},
    "a reward, and several ends": lambda said: {"repetition_penalty": 0.2, "eos_token_id": [2, said[0][2]]},
    "no token twice": lambda _: {"no_repeat_ngram_size": 1},
    "no pair twice": lambda _: {"no_repeat_ngram_size": 2, "repetition_penalty": 0.1},
    "bad words": lambda said: {"bad_words_ids": [[said[0][0]], said[1][:2], said[2][1:4], [2]]},
    "suppressed": lambda said: {"suppress_tokens": [said[0][1], said[1][1]]},
    "suppressed at the beginning": lambda said: {"begin_suppress_tokens": [said[0][0], said[2][0]]},
    "at least": lambda said: {"min_new_tokens": 4, "eos_token_id": [2, *said[0][:2]]},
    "a forced end": lambda _: {"forced_eos_token_id": 2, "forced_bos_token_id": 7, "max_length": 30},
    "cold draws and a penalty": lambda _: {
        "do_sample": True,
        "temperature": 1e-6,
        "top_k": 1,
        "repetition_penalty": 1.5,
    },
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_generation_settings_are_followed_as_the_published_class_follows_them(
    folder: Path, bundle: Bundle, tmp_path: Path, settings: Callable[[Said], dict[str, Any]]
) -> None:
    said, copy = answers(Published(folder)), Path(shutil.copytree(folder, tmp_path / "copy"))
    stored = {"eos_token_id": 2, "pad_token_id": 0, **settings(said)}
    (copy / "generation_config.json").write_text(json.dumps(stored))
    prompted, manifest = read_prompted(copy, Deployment(max_text_tokens=90)), bundle.manifest
    assert manifest.answer is not None
    answer = replace(manifest.answer, choice=prompted.choice, end_ids=prompted.end_ids)
    asked = replace(bundle, manifest=from_json(Manifest, to_json(replace(manifest, answer=answer))))
    expected = answers(Published(copy))
    with OrtBackend(threads=1) as backend:
        answerer = Answerer(ProgramExecutor(asked, backend))
        assert [ask(answerer, seed, question) for seed, question in enumerate(QUESTIONS)] == expected
    assert expected != said


def ask(answerer: Answerer, seed: int, question: str) -> list[int]:
    """Return the tokens of an answer about a random picture."""
    image = pictures(1, 20, 20, seed)[0]
    return [piece.token for piece in answerer.answer(Question(question, {"image0": image}))]


def test_the_checkpoint_is_described_as_its_bundle_is(folder: Path, bundle: Bundle) -> None:
    check_agreement(folder, bundle.root, is_default=False, text_tokens=90, new_tokens=6)


def test_a_pruned_profile_answers_and_an_answer_leaves_nothing_behind(answerer: Answerer) -> None:
    image = {"image0": pictures(1, 20, 20)[0]}
    once = [piece.token for piece in answerer.answer(Question(QUESTIONS[0], image, profile="keep25"))]
    list(answerer.answer(Question(QUESTIONS[2], image)))
    next(answerer.answer(Question(QUESTIONS[1], image)))  # broken off
    again = list(answerer.answer(Question(QUESTIONS[0], image, profile="keep25")))
    assert [piece.token for piece in again] == once
    assert set(again[0].timings_ns) == {"stage.prompt"} and set(again[-1].timings_ns) == {
        "stage.token",
        "token",
    }


def test_a_new_question_ends_the_old_answer(answerer: Answerer) -> None:
    image = {"image0": pictures(1, 20, 20)[0]}
    old = answerer.answer(Question(QUESTIONS[0], image))
    next(old)
    new = [piece.token for piece in answerer.answer(Question(QUESTIONS[1], image))]
    with pytest.raises(QuestionError, match="found another asked before this answer ended"):
        next(old)
    assert [piece.token for piece in answerer.answer(Question(QUESTIONS[1], image))] == new


def test_a_daemon_answers_as_it_moves_a_robot(bundle: Bundle, answerer: Answerer, tmp_path: Path) -> None:
    """A published family's bundle beside one that acts: what each says is what it says alone."""
    robot = write_tiny_bundle(tmp_path / "robot")
    config = DaemonConfig(robot, bind="127.0.0.1:0", threads=1, max_age_ns=0, answerer=bundle.root)
    image = {"image0": pictures(1, 20, 20)[0]}
    with Daemon(config) as daemon, Client(daemon.address) as client, client.open() as session:
        session.reset("push the red cube")
        carry, counted = np.zeros(GRID.tokens, np.float32), itertools.count(1)
        for number, profile in enumerate(("full", "keep25") * 4):
            for sampling in (Sampling(), Sampling(temperature=2.0, top_k=20, top_p=0.9, seed=number)):
                question = Question(QUESTIONS[number % 3], image, profile, sampling=sampling)
                expected = [piece.token for piece in answerer.answer(question)]
                said = client.answerer().answer(question)
                found = [next(said).token]
                observation = tiny_observation(number, sequence=next(counted))
                actions, _, carry = tiny_step(observation, carry, GRID.tokens, 4)
                np.testing.assert_allclose(session.act(observation).actions, actions, atol=1e-6)
                assert found + [piece.token for piece in said] == expected


def test_a_graph_that_answers_otherwise_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that are no numbers, and logits that are others, fail the check."""
    run = answering_parity._run
    for spoil in (lambda logits: logits * float("nan"), lambda logits: logits + 1.0):

        def broken(*args: object, spoil: object = spoil) -> tuple[torch.Tensor, ...]:
            logits, *others = run(*args)  # type: ignore[arg-type]
            return spoil(logits), *others  # type: ignore[operator]

        monkeypatch.setattr(answering_parity, "_run", broken)
        request = AnsweringRequest(checkpoint=folder, out=tmp_path / "b", max_text_tokens=8, max_new_tokens=4)
        with pytest.raises(ReceiptError, match="ONNX Runtime and PyTorch disagree"):
            export_answering(request, lambda what: None)
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("policy", "options", "output", "message"),
    [
        (
            "sparsevlm",
            {"recycle": True},
            "fate",
            "expected a share of visual tokens with the same fate >= 0.9, found 0",
        ),
        ("random_keep", {}, "carry.", "expected an error of a carry tensor <= 0.0001, found 1;"),
    ],
)
def test_a_graph_of_another_fate_or_carry_is_not_written(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    options: dict[str, bool],
    output: str,
    message: str,
) -> None:
    """The answer itself is as it was: only what the prompt's graph says beside it is off by one."""
    run = answering_parity._run

    def broken(
        session: GraphSession, ports: GraphPorts, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        found = run(session, ports, inputs)
        return tuple(
            tensor + name.startswith(output) for name, tensor in zip(ports.outputs, found, strict=True)
        )

    monkeypatch.setattr(answering_parity, "_run", broken)
    request = AnsweringRequest(
        checkpoint=folder,
        out=tmp_path / "b",
        policy=policy,
        options=options,
        keep_ratios=(1.0, 0.5),
        max_text_tokens=8,
        max_new_tokens=4,
    )
    with pytest.raises(ReceiptError, match=re.escape(message)):
        export_answering(request, lambda what: None)
    assert not (tmp_path / "b").exists()


def test_sampling_is_seeded_and_bounded(answerer: Answerer) -> None:
    image = {"image0": pictures(1, 20, 20)[0]}

    def tokens(**options: float) -> list[int]:
        sampling = Sampling(**options)  # type: ignore[arg-type]
        return [piece.token for piece in answerer.answer(Question(QUESTIONS[0], image, sampling=sampling))]

    assert tokens(temperature=3.0, seed=1) == tokens(temperature=3.0, seed=1)
    assert len({tuple(tokens(temperature=3.0, seed=seed)) for seed in range(6)}) > 1
    assert tokens(temperature=3.0, top_k=1, seed=4) == tokens()
    assert len([*answerer.answer(Question(QUESTIONS[0], image, max_new_tokens=2))]) == 2


def test_what_cannot_be_answered_is_refused_before_anything_runs(answerer: Answerer) -> None:
    image = {"image0": pictures(1, 20, 20)[0]}
    with pytest.raises(InstructionError, match="or a question, found nothing"):
        answerer.answer(Question(" ", image))
    with pytest.raises(InstructionError, match="1 to 90 tokens, its template included, found 101"):
        answerer.answer(Question("w1 " * 100, image))
    with pytest.raises(ImageError, match="expected the pictures image0, found scene"):
        answerer.answer(Question("w1", {"scene": image["image0"]}))
    with pytest.raises(ImageError, match=r"uint8 \(height, width, 3\), found float32 \[20, 20, 3\]"):
        answerer.answer(Question("w1", {"image0": np.zeros((20, 20, 3), np.float32)}))  # type: ignore[dict-item]
    with pytest.raises(QuestionError, match=r"expected 1 to 6 new tokens, .* found 7"):
        answerer.answer(Question("w1", image, max_new_tokens=7))
    with pytest.raises(QuestionError, match="expected a temperature, top_k and seed of 0 or more"):
        Sampling(temperature=-1.0)


def test_an_answering_bundle_moves_no_arm_and_a_robot_answers_no_question(bundle: Bundle) -> None:
    with (
        OrtBackend(threads=1) as backend,
        pytest.raises(BundleError, match="expected a bundle that controls a robot"),
    ):
        Session(ProgramExecutor(bundle, backend))


def test_the_commands_export_show_and_ask(folder: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "answers", tmp_path / "table.png"
    Image.fromarray(pictures(1, 33, 47)[0]).save(picture)
    options = ["--policy", "divprune", "--keep", "1.0,0.5", "--max-text-tokens", "8", "--max-new-tokens", "3"]
    options += ["--questions", "2"]
    ran = CliRunner().invoke(main, ["export-answering", str(folder), "--out", str(out), *options])
    assert ran.exit_code == 0, ran.output
    assert "llava-tiny -> " in ran.output and "full 16, keep50 8 of 16" in ran.output
    again = CliRunner().invoke(main, ["export-answering", str(folder), "--out", str(out), *options])
    assert again.exit_code == 1 and again.output.endswith("[export]\n")
    compared = json.loads((out / "receipts" / "parity.json").read_text())["profiles"]
    assert [receipt["questions"] for receipt in compared.values()] == [2, 2]
    shown = CliRunner().invoke(main, ["inspect", str(out)])
    assert shown.exit_code == 0 and "questions of at most 8 tokens with at most 3" in shown.output
    assert "One answer of 3 tokens: FLOPs" in shown.output and "lm head" in shown.output
    question = ["ask", str(out), "w1 w2", "--image", str(picture), "--profile", "keep50"]
    asked = CliRunner().invoke(main, [*question, "--json"])
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.output)
    assert 1 <= len(found["tokens"]) <= 3 and found["total_ms"] >= found["prompt_ms"] > 0
    plain = CliRunner().invoke(main, question)
    assert plain.output.strip() == found["answer"].strip()
    for wrong, message in (
        (
            ["--image", str(picture), "--image", str(picture)],
            "expected 1 pictures, as 'llava-tiny' was exported for",
        ),
        (["--image", str(tmp_path / "none.png")], "expected a picture, found no file"),
        (["--image", str(picture), "--profile", "keep10"], "expected a profile of this bundle"),
        (["--image", str(picture), "--max-new-tokens", "4"], "expected 1 to 3 new tokens"),
    ):
        refused = CliRunner().invoke(main, ["ask", str(out), "w1", *wrong])
        assert refused.exit_code == 1 and message in refused.output


def test_the_tokenizer_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    checkpoint, given = shutil.copytree(folder, tmp_path / "llava"), tmp_path / "base" / "tokenizer.json"
    given.parent.mkdir()
    shutil.move(checkpoint / "tokenizer.json", given)
    out = tmp_path / "bundle"
    options = [
        "--tokenizer",
        str(given),
        "--max-text-tokens",
        "8",
        "--max-new-tokens",
        "3",
        "--questions",
        "1",
    ]
    ran = CliRunner().invoke(main, ["export-answering", str(checkpoint), "--out", str(out), *options])
    assert ran.exit_code == 0, ran.output
    assert (out / "tokenizer.json").read_bytes() == given.read_bytes()
    assert not (out / "manifest.json").read_text().count("embedding_rows")


def test_receipts_say_what_was_compared(bundle: Bundle) -> None:
    parity = json.loads(bundle.read("receipts/parity.json"))["profiles"]
    assert set(parity) == {"full", "keep25"}
    assert all(receipt["max_error"] < 1e-3 and receipt["same_tokens"] == 1.0 for receipt in parity.values())
    assert parity["full"]["change"] == 0.0 < parity["keep25"]["change"]
    costs = {budget.name: budget for budget in inspect_bundle(bundle).budgets}
    assert set(costs) == {"full", "keep25"}
    prefill = {name: budget.parts[2] for name, budget in costs.items()}
    assert prefill["full"].name == "prefill" and prefill["full"].macs > prefill["keep25"].macs
    assert costs["keep25"].visual_by_layer == (16, 4, 4)
    assert inspect_bundle(bundle).policies[0].acts == (CutPlace("decoder", 1),)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompt": "<image> and <image> {instruction}"}, CheckpointError, "<image> 1 times"),
        ({"prompt": "<image> what?"}, CheckpointError, "{instruction} once"),
        ({"policy": "vla_cash"}, PolicyError, "did you mean 'vla_cache'"),
        ({"views": 0}, CheckpointError, "expected at least one picture, .* found views = 0"),
    ],
)
def test_requests_that_cannot_be_are_refused(
    folder: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    wanted: dict[str, object] = {"checkpoint": folder, "out": tmp_path / "b", **change}
    with pytest.raises(error, match=message):
        export_answering(AnsweringRequest(**wanted), lambda what: None)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_files_that_are_missing_are_named(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json", "preprocessor_config.json"):
        copy = shutil.copytree(folder, tmp_path / name.removesuffix(".json"))
        (copy / name).unlink()
        with pytest.raises(CheckpointError, match=f"expected {name}"):
            export_answering(AnsweringRequest(checkpoint=copy, out=tmp_path / "b"), lambda what: None)
