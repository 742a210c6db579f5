"""The documentation: the site is built as anyone would build it, and its reference pages lack nothing."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from saccade.export.families.embodiment import Embodiment
from saccade.proto import errors
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec
from saccade.runtime.commands.main import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EVENTS = {
    "observation.stale": errors.StaleObservationError,
    "action.late": errors.LateChunkError,
    "observation.frozen": errors.FrozenCameraError,
    "action.refused": errors.ActionRefusedError,
    "input.limits": errors.LimitsError,
    "input.view_scores": errors.ViewScoresError,
    "engine": errors.EngineError,
    "session.views_unscored": errors.ViewsUnscoredError,
    "observation.superseded": errors.SupersededError,
    "session.stopped": errors.StoppedError,
    "session.lease_held": errors.LeaseHeldError,
    "transport.*": errors.TransportError,
    "transport.unavailable": errors.UnavailableError,
    "transport.unknown_host": errors.UnknownHostError,
    "transport.protocol": errors.ProtocolError,
    "input.address": errors.AddressError,
    "transport.fork": errors.ForkError,
    "serve.draining": errors.DrainingError,
    "question.busy": errors.AnswererBusyError,
    "observation.image": errors.ImageError,
    "input.video": errors.VideoError,
    "transport.message": errors.MessageError,
    "observation.proprio": errors.ProprioError,
    "instruction": errors.InstructionError,
    "file": errors.FileError,
    "bundle.integrity": errors.BundleIntegrityError,
}
PARTS = {"proprio": VectorSpec, "action": ActionSpec, "limits": LimitsSpec}
"""Fields of an embodiment that have fields of their own."""


PUBLIC = {
    "client": ("runtime.client.RemoteSession.act", "runtime.observation.Observation"),
    "contracts": ("proto.errors.StaleObservationError.code", "proto.manifest.read_manifest"),
    "policies": (
        "policies.base.TokenPolicy.select",
        "policies.signals.AttentionReceived",
        "policies.conformance",
    ),
    "families": ("export.families.base.ActingFamily", "export.families.embodiment.Embodiment"),
    "recipes": ("export.control.pipeline.export_bundle", "export.answer.pipeline.AnsweringRequest"),
}
"""Page to some names that must be on it."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a dead link, a missing anchor, a page outside the navigation would have failed it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # as in the Makefile
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    return folder


class Loads(HTMLParser):
    """Collects what a browser fetches by itself when it opens a page, and the ids on it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.urls.append(value or "")
            if name == "id":
                self.ids.add(value or "")
            if name == "class":
                assert "mermaid" not in (value or "").split(), "the theme fetches its script from a host"


@pytest.mark.slow
def test_nothing_on_the_site_comes_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))  # and what of the repository they link to
    remote = re.compile(r"(?:[a-z]+:)?//")
    assert [(page.name, url) for page in pages for url in Loads(page).urls if remote.match(url)] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles and not any(re.search(r"@import|url\([\"']?(?:https?:)?//", style) for style in styles)


@pytest.mark.slow
def test_every_command_and_option_is_on_the_page(site: Path) -> None:
    _, *parts = re.split(r'<h2 id="([^"]+)">', (site / "command_line.html").read_text(encoding="utf-8"))
    shown = dict(zip(parts[::2], parts[1::2], strict=True))
    commands = dict(every_command("saccade", main))
    assert {"saccade export", "saccade serve", "saccade sim demo"} <= {*commands}
    assert list(shown) == [path.replace(" ", "-") for path in commands]
    for text, command in zip(shown.values(), commands.values(), strict=True):
        plain = html.unescape(re.sub(r"<[^>]+>", "", text)).replace("`", "")
        options = [each for each in command.params if isinstance(each, click.Option)]
        assert [option.opts[0] for option in options if option.opts[0] not in plain] == []
        told = f"{command.help}\n{command.epilog or ''}".replace("\b", "").split("\n")
        assert [line for line in told if line.replace("`", "").strip() not in plain] == []


def every_command(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every_command(f"{path} {name}", below)


@pytest.mark.slow
def test_the_api_is_documented(site: Path) -> None:
    for page, names in PUBLIC.items():
        path = site / "api" / f"{page}.html"
        assert {f"saccade.{name}" for name in names} - Loads(path).ids == set()
        assert not re.search(r":(?:class|data|func|meth|mod):", path.read_text(encoding="utf-8"))


def test_every_field_of_an_embodiment_has_a_row() -> None:
    chapter = section("your_robot.md", "Every field")
    rows = re.findall(r"^\| `([a-z_.]+)` \| (yes|no|by family) \|", chapter, re.MULTILINE)
    known = [
        (f"{field.name}.{part.name}" if field.name in PARTS else field.name)
        for field in fields(Embodiment)
        for part in (fields(PARTS[field.name]) if field.name in PARTS else (field,))
    ]
    assert [name for name, _ in rows] == known


def test_the_codes_of_events_are_those_of_the_errors() -> None:
    chapter = section("errors.md", "When something goes wrong")
    assert re.findall(r"\| `([a-z_.*]+)` \|$", chapter, re.MULTILINE) == list(EVENTS)
    assert all(kind.code == code.removesuffix(".*") for code, kind in EVENTS.items())


def test_every_code_on_the_pages_exists() -> None:
    shown = re.findall(r"^\[([a-z_.]+)\] ", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    advised = re.findall(r"`([a-z_.]+)(?:\.\*)?`", section("errors.md", "What to do in the control loop"))
    known = [code for code in advised if code not in {"session.new", "reset"}]
    assert shown and known
    for code in (*shown, *known):
        assert errors.error_from_code(code, "").code == code


def section(page: str, title: str) -> str:
    """Return the text below a heading, up to the next one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"# {title}\n")
    assert found
    return rest.partition("\n## ")[0]
