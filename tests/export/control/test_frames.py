"""Recorded frames fit the checkpoint or are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from saccade.export.control.frames import host_inputs, read_recording, synthetic_recording
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.proto.errors import ExportError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import SegmentSpec
from saccade.runtime.tokens import InstructionTokens
from tests.export.samples import CONFIG
from tests.published_tokenizers import byte_level, id_of

IMAGES = np.zeros((3, 2, 12, 12, 3), np.uint8)
PROPRIO = np.zeros((3, 2), np.float32)
TEXT = np.array(["push the red block"] * 3)


def test_recorded_frames_become_graph_inputs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", images=IMAGES, proprio=PROPRIO, instruction=TEXT)
    recording = read_recording(tmp_path / "frames.npz", checkpoint)
    images, proprio, ids, mask, positions = next(host_inputs(recording, checkpoint))
    assert images.shape == (1, 2, 12, 12, 3)
    assert proprio.tolist() == [[-1.0, -1.0]]
    assert ids.tolist() == [[4, 5, 6, 8, 0, 0]]
    assert mask[0].tolist() == [True] * 14 + [False] * 2 + [True] * 7
    assert positions[0].tolist() == [*range(14), 0, 0, *range(14, 21)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES, "proprio": PROPRIO}, r"found no \['instruction'\]"),
        ({"images": IMAGES[:, :1], "proprio": PROPRIO, "instruction": TEXT}, "images: expected uint8"),
        ({"images": IMAGES / 255, "proprio": PROPRIO, "instruction": TEXT}, "found float64"),
        ({"images": IMAGES[:0], "proprio": PROPRIO[:0], "instruction": TEXT[:0]}, "at least 1 frame"),
        ({"images": IMAGES, "proprio": PROPRIO[:, :1], "instruction": TEXT}, r"proprio: expected \[3, 2\]"),
        ({"images": np.array([object()]), "proprio": PROPRIO, "instruction": TEXT}, "without pickles"),
    ],
)
def test_wrong_frames_are_named(
    arrays: dict[str, np.ndarray], message: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    np.savez(tmp_path / "frames.npz", **arrays)
    with pytest.raises(ExportError, match=message):
        read_recording(tmp_path / "frames.npz", checkpoint)


def test_a_file_that_is_no_recording(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "frames.npz").write_text("not a zip")
    for name in ("frames.npz", "absent.npz"):
        with pytest.raises(
            ExportError, match=r"expected recorded frames .* found: (another kind|.*No such file)"
        ):
            read_recording(tmp_path / name, checkpoint)


def test_synthetic_prompts_have_every_length_that_fits(checkpoint: Checkpoint) -> None:
    masks = [mask for _, _, _, mask, _ in host_inputs(synthetic_recording(checkpoint, 12), checkpoint)]
    lengths = {int(mask.sum()) - 2 - 8 - 1 - 6 for mask in masks}
    assert lengths == {1, 2, 3, 4, 5, 6}


def test_synthetic_prompts_fit_a_tokenizer_of_bytes_and_a_long_template(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=300)
    tokenizer.train_from_iterator(["what action should the robot take to push the block"], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    template = "what action should the robot take to {instruction}"
    spoken = replace(
        checkpoint,
        tokenizer=tmp_path / "tokenizer.json",
        embodiment=replace(checkpoint.embodiment, template=template),
        model=OpenVlaOft(replace(CONFIG, max_text_tokens=24)),
    )
    assert len(list(host_inputs(synthetic_recording(spoken, 12), spoken))) == 12


def test_a_prompt_that_is_too_long(checkpoint: Checkpoint) -> None:
    recording = synthetic_recording(checkpoint, 1)
    long = replace(recording, instruction=("push " * 7,))
    with pytest.raises(ExportError, match="expected a prompt of 1 to 6 tokens, found 7"):
        list(host_inputs(long, checkpoint))


def test_prompts_are_those_of_the_robot_special_tokens_included(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    tokenizer = byte_level()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    end = id_of(tokenizer, "<|im_end|>")
    prompt = InstructionSpec("tokenizer.json", "<|im_start|>{instruction}<|im_end|>", 40, 0, before=(7,))
    model = OpenVlaOft(replace(CONFIG, max_text_tokens=40))
    spoken = replace(checkpoint, tokenizer=tmp_path / "tokenizer.json", instruction=prompt, model=model)
    text = "the red<|im_end|> cube"
    recording = replace(synthetic_recording(spoken, 1), instruction=(text,))
    _, _, ids, _, _ = next(host_inputs(recording, spoken))
    assert ids[0].tolist().count(end) == 1
    sequence = tuple(SegmentSpec(*segment) for segment in model.segments.items())
    robot = InstructionTokens(spoken.tokenizer.read_bytes(), prompt, sequence).encode(text)
    assert ids.tolist() == robot.token_ids.tolist()


def test_an_instruction_that_is_no_unicode_text_is_named(checkpoint: Checkpoint) -> None:
    recording = replace(synthetic_recording(checkpoint, 2), instruction=("push", "push \udcff"))
    with pytest.raises(ExportError, match="frame 1: expected an instruction or a question in Unicode text"):
        list(host_inputs(recording, checkpoint))
