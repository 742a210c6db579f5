"""``saccade score-views``: how likely a model sees something of the task in each picture."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from saccade.runtime.answering.pictures import read_picture
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.visible_objects import ScoringQuestions, VisibleObjects, check_sees_one_picture


@click.command(name="score-views")
@click.argument("answerer", type=click.Path(path_type=Path, file_okay=False))
@click.argument("instruction")
@click.option(
    "--image",
    "images",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Picture file of a view, or a frame of a video; repeat it for each.",
)
@click.option(
    "--profile",
    default="full",
    show_default=True,
    help="How many visual tokens are kept; `saccade inspect ANSWERER` lists the profiles.",
)
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads that run the model; 0 = one for each core.",
)
@click.option("--json", "as_json", is_flag=True, help="Print objects, scores and times as JSON.")
def score_views(
    answerer: Path, instruction: str, images: tuple[Path, ...], profile: str, threads: int, as_json: bool
) -> None:
    """Score pictures for an INSTRUCTION: ask ANSWERER what it is about, then of each picture whether it shows that.

    ANSWERER is a bundle of `saccade export-answering` for one picture, with --max-text-tokens 256. A score is the
    probability that the answer begins with "yes". The daemon does it by itself: `saccade serve --view-scorer ANSWERER`.

    \b
    Example:
        saccade score-views ./qwen "put the red block in the bowl" --image scene.jpg --image wrist.jpg
    """
    bundle = Bundle.open(answerer)
    check_sees_one_picture(bundle.manifest)
    ScoringQuestions(bundle).check(instruction)
    pictures = [read_picture(path) for path in images]  # before what takes longer
    with OrtBackend(threads=threads) as backend:
        asked = VisibleObjects(ProgramExecutor(bundle, backend), profile=profile)
        del bundle  # and the memory of what the program has copied
        started = time.monotonic_ns()
        objects = asked.objects(instruction)
        known = time.monotonic_ns()
        scores = [asked.probability(picture, instruction, objects) for picture in pictures]
    if as_json:
        found = {
            "objects": objects,
            "scores": [
                {"image": str(path), "score": score} for path, score in zip(images, scores, strict=True)
            ],
            "objects_ms": round((known - started) / 1e6, 3),
            "scores_ms": round((time.monotonic_ns() - known) / 1e6, 3),
        }
        click.echo(json.dumps(found))
        return
    click.echo(f"objects: {', '.join(objects) or 'none in particular'}")
    for path, score in zip(images, scores, strict=True):
        click.echo(f"{score:8.4f}  {path}")
