"""Token ids past the embedding table: accepted where no prompt needs them, refused where a text spells them out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from saccade.export.control.frames import Recording, host_inputs, synthetic_recording
from saccade.export.control.pipeline import ExportRequest, export_bundle
from saccade.export.families.deployment import Deployment
from saccade.export.families.embedded_tokens import check_vocabulary, spelling_none, within_embedding
from saccade.export.families.pi.checkpoint import PI0_PROMPT, PI05_PROMPT, PiPrompt
from saccade.export.families.prompts import read_prompted
from saccade.export.families.registry import load_checkpoint
from saccade.proto.errors import CheckpointError, ExportError, InstructionError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import SegmentSpec, read_manifest
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from saccade.runtime.tokens import InstructionTokens
from tests.export.families import chat_checkpoints
from tests.export.families.real_tokenizers import PALIGEMMA_ROWS, add_tokens, write_paligemma

ROOT = Path(__file__).parents[3]
MINI = ROOT / "sim/saccade_mini"
PROMPTS = {"pi0": PI0_PROMPT, "pi05": PI05_PROMPT}
PAST = r"ids below 257152\), found '<image>', token 257152, in "


@pytest.fixture(scope="module")
def paligemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_paligemma(tmp_path_factory.mktemp("paligemma"))


@pytest.fixture(scope="module")
def tokenizer(paligemma: Path) -> Tokenizer:
    return Tokenizer.from_file(str(paligemma))


def spec_of(prompt: PiPrompt) -> InstructionSpec:
    return InstructionSpec(
        "tokenizer.json", prompt.template, 80, 0, before=(2,), state_bins=prompt.state_bins
    )


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_paligemmas_picture_does_not_stand_in_the_way(
    paligemma: Path, tokenizer: Tokenizer, prompt: PiPrompt
) -> None:
    """It is a special token, which a person who types it means as text."""
    check_vocabulary(tokenizer, PALIGEMMA_ROWS, "tokenizer.json")
    spec = within_embedding(spec_of(prompt), tokenizer, PALIGEMMA_ROWS)
    assert spec == replace(spec_of(prompt), embedding_rows=PALIGEMMA_ROWS)
    tokens = InstructionTokens(paligemma.read_bytes(), spec, (SegmentSpec("text", 80),))
    found = tokens.encode("pick up <image>", "7 9" if prompt.state_bins else "").token_ids
    assert found.max() < PALIGEMMA_ROWS and tokenizer.token_to_id(">") in found


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_a_token_that_is_not_special_is_refused_in_an_instruction(
    paligemma: Path, tmp_path: Path, prompt: PiPrompt
) -> None:
    changed = shutil.copyfile(paligemma, tmp_path / "tokenizer.json")
    add_tokens(changed, {"gripper": PALIGEMMA_ROWS + 1})
    spec = within_embedding(spec_of(prompt), Tokenizer.from_file(str(changed)), PALIGEMMA_ROWS)
    tokens = InstructionTokens(changed.read_bytes(), spec, (SegmentSpec("text", 80),))
    state = "7 9" if prompt.state_bins else ""
    for _ in range(2):
        with pytest.raises(
            InstructionError, match=r"below 257152\), found 'gripper', token 257153, in '.*open the gripper"
        ):
            tokens.encode("open the gripper", state)
    assert tokens.encode("open the hand", state).count > 1


def test_a_tokenizer_that_fits_changes_nothing(tokenizer: Tokenizer) -> None:
    spec = spec_of(PI0_PROMPT)
    assert within_embedding(spec, tokenizer, PALIGEMMA_ROWS + 64) is spec
    assert spelling_none(["a", "<image>"], tokenizer, 0) == ["a", "<image>"]


def test_a_word_of_the_vocabulary_without_a_row_means_another_model(tokenizer: Tokenizer) -> None:
    with pytest.raises(
        CheckpointError, match=r"t\.json: expected token ids below 257151 .* found 257151; use"
    ):
        check_vocabulary(tokenizer, PALIGEMMA_ROWS - 1, "t.json")


@pytest.mark.parametrize(
    "change", [{"template": "<image>{instruction}\n"}, {"before": (PALIGEMMA_ROWS,)}, {"pad_id": PALIGEMMA_ROWS}]
)  # fmt: skip
def test_what_is_in_every_prompt_has_a_row(tokenizer: Tokenizer, change: dict[str, object]) -> None:
    with pytest.raises(InstructionError, match=PAST + r"'.*{instruction}\\n'; leave it out"):
        within_embedding(replace(spec_of(PI0_PROMPT), **change), tokenizer, PALIGEMMA_ROWS)


def test_the_state_may_be_anywhere_in_the_template(tokenizer: Tokenizer) -> None:
    spec = replace(spec_of(PI05_PROMPT), template="{state}<image>{instruction}")
    with pytest.raises(InstructionError, match=PAST + "'{state}<image>{instruction}'"):
        within_embedding(spec, tokenizer, PALIGEMMA_ROWS)


def test_random_words_spell_no_token_without_a_row(checkpoint_path: Path, tmp_path: Path) -> None:
    """A token may be a part of a word."""
    folder = shutil.copytree(checkpoint_path, tmp_path / "c")
    add_tokens(folder / "tokenizer.json", {"lock": 11, "zone!": 12})
    checkpoint = load_checkpoint(folder)
    assert checkpoint.instruction.embedding_rows == 11
    words = {word for text in synthetic_recording(checkpoint, 40).instruction for word in text.split()}
    assert words == {"push", "the", "red", "blue", "to", "zone"}
    recording = synthetic_recording(checkpoint, 2)
    assert len(list(host_inputs(recording, checkpoint))) == 2
    told = Recording(recording.images, recording.proprio, ("push", "push the block"), "recorded")
    with pytest.raises(
        ExportError, match=r"frame 1: .* found 'lock', token 11, in 'push the block'; leave it out"
    ):
        list(host_inputs(told, checkpoint))


@pytest.mark.slow
def test_pi0_is_exported_with_the_tokenizer_it_is_published_with(
    lerobot_written: Callable[[str], Path], paligemma: Path, tmp_path: Path
) -> None:
    """lerobot's table has 257152 rows, in its tiny model too."""
    checkpoint = shutil.copytree(lerobot_written("pi0"), tmp_path / "pi0")
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"copy tokenizer\.json of google/paligemma-3b-pt-224 \(policy_pre"
    ):
        load_checkpoint(checkpoint)
    bundle = tmp_path / "bundle"
    request = ExportRequest(
        checkpoint=checkpoint, out=bundle, policy="keep_all", keep_ratios=(1.0,), tokenizer=paligemma
    )
    assert export_bundle(request, lambda what: None).manifest.instruction.embedding_rows == PALIGEMMA_ROWS
    assert (bundle / "tokenizer.json").read_bytes() == paligemma.read_bytes()
    with OrtBackend(threads=1) as backend, Session(ProgramExecutor(Bundle.open(bundle), backend)) as session:
        session.reset("pick up the <image>")


@pytest.mark.parametrize("policy", ["pi0", "pi05"])
def test_what_lerobot_writes_beside_the_weights_is_found(
    lerobot_written: Callable[[str], Path], paligemma: Path, tmp_path: Path, policy: str
) -> None:
    checkpoint = shutil.copytree(lerobot_written(policy), tmp_path / policy)
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer").mkdir()
    shutil.copyfile(paligemma, checkpoint / "tokenizer/tokenizer.json")
    loaded = load_checkpoint(checkpoint, mapped=True)
    assert loaded.tokenizer == checkpoint / "tokenizer/tokenizer.json"
    assert (loaded.instruction.before, loaded.instruction.embedding_rows) == ((2,), PALIGEMMA_ROWS)


def test_the_manifest_of_a_bundle_that_needs_it_not_stays_as_it_was() -> None:
    written = json.loads((MINI / "bundle/manifest.json").read_text())["instruction"]
    assert "embedding_rows" not in written
    assert load_checkpoint(MINI / "checkpoint").instruction == read_manifest(MINI / "bundle").instruction


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA-NeXT, whose table ends right before a token that was added later, as fine-tunes leave it."""
    folder = chat_checkpoints.write_next(tmp_path_factory.mktemp("talking") / "next")
    rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    fill(folder / "tokenizer.json", rows)
    add_tokens(folder / "tokenizer.json", {"<tool>": rows})
    return folder


def fill(tokenizer: Path, size: int) -> None:
    """Give a vocabulary pieces that no text has, until no id below ``size`` is free."""
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in content["added_tokens"])}
    vocabulary |= {f"@@{index}": index for index in range(size) if index not in taken}
    tokenizer.write_text(json.dumps(content), encoding="utf-8")


DEPLOYMENT = Deployment(views=2, image_size=(33, 47))


def test_a_question_may_not_have_it_either(talking: Path) -> None:
    spec = read_prompted(talking, DEPLOYMENT).instruction
    rows = json.loads((talking / "config.json").read_text())["text_config"]["vocab_size"]
    assert spec.embedding_rows == rows
    tokens = InstructionTokens(
        (talking / "tokenizer.json").read_bytes(), spec, (SegmentSpec("text", spec.max_tokens),)
    )
    assert np.all(tokens.encode("What?").token_ids < rows)
    with pytest.raises(InstructionError, match=rf"found '<tool>', token {rows}, in '.*Use <tool>!"):
        tokens.encode("Use <tool>!")


@pytest.mark.parametrize(
    "prompt",
    [
        "<tool><image> <image>{instruction}",
        "a <image><tool><image>{instruction}",
        "a <image> <image><tool>{instruction}",
    ],
)
def test_no_part_of_a_prompt_may_have_it(talking: Path, prompt: str) -> None:
    with pytest.raises(InstructionError, match=r"found '<tool>', token .* in '.*<tool>.*'; leave it out"):
        read_prompted(talking, DEPLOYMENT, prompt)


def test_a_tokenizer_of_another_model_is_refused_of_what_answers_too(talking: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(talking, tmp_path / "next")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["€"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected token ids below .* found 5000"):
        read_prompted(folder, DEPLOYMENT)
