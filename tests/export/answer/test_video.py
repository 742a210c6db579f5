"""A video file, sampled, decoded and answered by the runtime, against transformers from the same file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from saccade.export.answer.pipeline import AnsweringRequest, export_answering
from saccade.runtime.commands.main import main
from tests.export.families.chat_checkpoints import onevision_answer, write_onevision
from tests.export.families.llava.test_onevision import TILE
from tests.runtime.answering.test_video import RATE_HZ, write_video

FRAMES, NEW_TOKENS = 3, 6


def _always(chosen: NDArray[np.int64]) -> Callable[..., NDArray[np.int64]]:
    return lambda *_, **__: chosen


@pytest.mark.slow
def test_onevision_answers_about_a_video_file_as_the_published_class_does(tmp_path: Path) -> None:
    from transformers.video_utils import VideoMetadata, default_sample_indices_fn, load_video

    checkpoint, out = write_onevision(tmp_path / "onevision"), tmp_path / "bundle"
    export_answering(
        AnsweringRequest(
            checkpoint=checkpoint, out=out, frames=FRAMES, max_text_tokens=24, max_new_tokens=NEW_TOKENS
        ),
        lambda what: None,
    )
    for name, length, question in (("a.mp4", 47, "what moves?"), ("b.vp9.webm", 20, "where is it")):
        video = write_video(tmp_path / name, length)
        whole = VideoMetadata(
            total_num_frames=length, fps=RATE_HZ
        )  # WebM does not say how many frames it has
        chosen = default_sample_indices_fn(whole, FRAMES)
        frames, _ = load_video(str(video), backend="pyav", sample_indices_fn=_always(chosen))
        tiles = [
            np.asarray(Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.BICUBIC))
            for frame in frames
        ]
        expected = onevision_answer(checkpoint, tiles, question, NEW_TOKENS, is_video=True)
        found = CliRunner().invoke(main, ["ask", str(out), question, "--video", str(video), "--json"])
        assert found.exit_code == 0, found.output
        assert json.loads(found.output)["tokens"] == expected
