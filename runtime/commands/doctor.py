"""``saccade doctor``: can this machine serve, and can it serve this bundle?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from saccade.proto.strict_json import to_json
from saccade.runtime.doctor import examine


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    default="127.0.0.1:7447",
    show_default=True,
    help="Address that must be free.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(bundle: Path | None, bind: str, as_json: bool) -> None:
    """Check that this machine can serve, and that every profile of BUNDLE runs here.

    Exit code 1 if anything is wrong.

    \b
    Example:
        saccade doctor ./saccade-mini
    """
    findings = examine(bundle, bind)
    if as_json:
        click.echo(json.dumps(to_json(findings)))
    else:
        for finding in findings:
            click.secho(
                "ok   " if finding.is_ok else "FAIL ", fg="green" if finding.is_ok else "red", nl=False
            )
            click.echo(f"{finding.subject}: {finding.detail}")
    if not all(finding.is_ok for finding in findings):
        raise click.exceptions.Exit(1)
