"""``saccade ask``: a question about pictures or videos, answered as it is generated, in process or by a daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from click.core import ParameterSource

from saccade.runtime.answering.answerer import Answerer, answer_spec
from saccade.runtime.answering.question import Answers, Piece, Question
from saccade.runtime.answering.question_files import read_shown
from saccade.runtime.answering.sampling import Sampling
from saccade.runtime.bundle import Bundle
from saccade.runtime.client import DEFAULT_ANSWER_DEADLINE_S, Client
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[BUNDLE] QUESTION")
@click.option(
    "--daemon", metavar="HOST:PORT", help="Ask the daemon there instead of a BUNDLE on this machine."
)
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Picture file; repeat it for a bundle that looks at several pictures.",
)
@click.option(
    "--video",
    "videos",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Video file, for a bundle that was exported with --frames; may be repeated. Needs the extra 'video'.",
)
@click.option(
    "--profile",
    default="full",
    show_default=True,
    help="How many visual tokens are kept; `saccade inspect BUNDLE` lists the profiles.",
)
@click.option(
    "--max-new-tokens",
    type=int,
    help="Longest answer, in tokens; default: as many as the bundle has room for.",
)
@click.option(
    "--temperature",
    type=float,
    help="How freely tokens are drawn; 0 = always the likeliest. Default: as the checkpoint says, else 0.",
)
@click.option(
    "--top-k",
    type=int,
    help="Draw from this many of the likeliest tokens; 0 = from all. Default: as the checkpoint says.",
)
@click.option(
    "--top-p",
    type=float,
    help="Draw from the likeliest tokens whose probabilities add up to this. Default: as the checkpoint says.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the draws; the same seed gives the same answer."
)
@click.option(
    "--threads",
    default=0,
    show_default=True,
    help="Threads that run the model; 0 = one for each core. Not with --daemon.",
)
@click.option(
    "--deadline-s",
    type=click.FloatRange(0, min_open=True),
    default=DEFAULT_ANSWER_DEADLINE_S,
    show_default=True,
    help="Seconds that the answer may take. Only with --daemon.",
)
@click.option("--json", "as_json", is_flag=True, help="Print answer, tokens and times as JSON.")
@click.pass_context
def ask(
    context: click.Context,
    arguments: tuple[str, ...],
    daemon: str | None,
    images: tuple[Path, ...],
    videos: tuple[Path, ...],
    profile: str,
    max_new_tokens: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    threads: int,
    deadline_s: float,
    as_json: bool,
) -> None:
    """Ask BUNDLE, or the daemon at HOST:PORT, a QUESTION about pictures or videos.

    \b
    Example:
        saccade ask ./llava "What is on the table?" --image table.jpg
        saccade ask ./llava-video "What happens?" --video kitchen.mp4
        saccade ask --daemon 127.0.0.1:7447 "What is on the table?" --image table.jpg
    """
    bundle, text = _bundle_and_question(context, arguments, daemon)
    with ExitStack() as stack:
        answers: Answers
        if bundle is None:
            answers = stack.enter_context(Client(str(daemon))).answerer(deadline_s=deadline_s)
            pictures = read_shown(answers.manifest, images, videos)
        else:
            opened = Bundle.open(bundle)
            pictures = read_shown(opened.manifest, images, videos)  # before what takes longer
            backend = stack.enter_context(OrtBackend(threads=threads))
            answers = Answerer(ProgramExecutor(opened, backend))
            del opened  # and the memory of what the program has copied
        choice = answer_spec(answers.manifest).choice
        sampling = Sampling.of(choice, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        question = Question(text, pictures, profile, max_new_tokens, sampling)
        started = time.monotonic_ns()
        pieces = answers.answer(question)
        if as_json:
            click.echo(json.dumps(_as_json(list(pieces), time.monotonic_ns() - started)))
        else:
            _print(pieces)


def _bundle_and_question(
    context: click.Context, arguments: tuple[str, ...], daemon: str | None
) -> tuple[Path | None, str]:
    """Tell the two forms of the command apart.

    Raises:
        UsageError: Neither of them.
    """
    wanted = ("BUNDLE", "QUESTION") if daemon is None else ("QUESTION",)
    if len(arguments) != len(wanted):
        raise click.UsageError(
            f"expected {' and '.join(wanted)}{' with --daemon' if daemon else ''}, found {len(arguments)} arguments: "
            "put the question in quotes."
        )
    useless = "deadline_s" if daemon is None else "threads"
    if context.get_parameter_source(useless) is ParameterSource.COMMANDLINE:
        option = useless.replace("_", "-")
        raise click.UsageError(
            f"expected no --{option} {'without' if daemon is None else 'with'} --daemon, found one."
        )
    return (Path(arguments[0]) if daemon is None else None), arguments[-1]


def _print(pieces: Iterator[Piece]) -> None:
    """Print an answer as it comes."""
    for piece in pieces:
        click.echo(piece.text, nl=False)
    click.echo()


def _as_json(pieces: list[Piece], total_ns: int) -> dict[str, object]:
    first = sum(pieces[0].timings_ns.values())
    later = [piece.timings_ns["token"] for piece in pieces[1:]]
    return {
        "answer": "".join(piece.text for piece in pieces),
        "tokens": [piece.token for piece in pieces],
        "prompt_ms": round(first / 1e6, 3),
        "ms_per_token": round(sum(later) / len(later) / 1e6, 3) if later else None,
        "total_ms": round(total_ns / 1e6, 3),
    }
