"""``saccade ask``: a question about pictures, answered as it is generated."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import click

from saccade.runtime.answerer import Answerer, Piece, answer_spec, by_view
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.pictures import read_picture
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.sampling import Sampling


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False))
@click.argument("question")
@click.option(
    "--image",
    "images",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="May be repeated.",
)
@click.option("--profile", default="full", show_default=True, help="Budget of visual tokens.")
@click.option(
    "--max-new-tokens", type=int, help="Length of the answer at most; default: what the bundle has room for."
)
@click.option("--temperature", default=0.0, show_default=True, help="0 = the likeliest token every time.")
@click.option("--top-k", default=0, show_default=True, help="Draw from so many of the likeliest; 0 = all.")
@click.option(
    "--top-p",
    default=1.0,
    show_default=True,
    help="Draw from the fewest that have this probability.",
)
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--threads", default=0, show_default=True, help="Of the engine; 0 = all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print answer, tokens and times as JSON.")
def ask(
    bundle: Path,
    question: str,
    images: tuple[Path, ...],
    profile: str,
    max_new_tokens: int | None,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    threads: int,
    as_json: bool,
) -> None:
    """Ask BUNDLE a QUESTION about pictures.

    \b
    Example:
        saccade ask ./llava "What is on the table?" --image table.jpg
    """
    opened = Bundle.open(bundle)
    answer_spec(opened.manifest)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    pictures = by_view(opened.manifest, [read_picture(path) for path in images])
    with OrtBackend(threads=threads) as backend:
        answerer = Answerer(ProgramExecutor(opened, backend), profile=profile)
        started = time.monotonic_ns()
        pieces = answerer.answer(question, pictures, max_new_tokens=max_new_tokens, sampling=sampling)
        if as_json:
            click.echo(json.dumps(_as_json(list(pieces), time.monotonic_ns() - started)))
        else:
            _print(pieces)


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
