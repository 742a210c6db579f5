"""The report stands alone and shows what really happened."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html import unescape
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from saccade.proto.policy_spec import GateSpec
from saccade.sim.claim import claim_of
from saccade.sim.connection import Connection
from saccade.sim.display import LiveProgress
from saccade.sim.evaluation import EvaluationPlan, Results, evaluate
from saccade.sim.live_time import LiveTime
from saccade.sim.recorder import ClipRecorder
from saccade.sim.report.html_report import Report, render_report
from saccade.sim.report.overlay import token_layer
from tests.sim.tabletop_bundle import GRID


@pytest.fixture(scope="module")
def report(in_process: Connection) -> Report:
    plan = EvaluationPlan(("reach", "push"), ("full", "keep25"), range(2))
    with LiveProgress(plan, Console(quiet=True)) as progress:
        recorder = ClipRecorder.of_smallest(in_process.manifest, plan.profiles, progress)
        results = evaluate(in_process, plan, recorder)
    claim = claim_of(results, in_process.manifest.grid.tokens)
    return Report(in_process.manifest, in_process.engine, "grpc", results, recorder.clips, claim)


class Page(HTMLParser):
    """Collects tags that must close, and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "input", "line", "i", "b"}:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"i", "b"}:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def clips_in(html: str) -> dict:
    (data,) = re.findall(r'<script type="application/json" id="clips-data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data)


def image_in(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_needs_nothing_else(report: Report) -> None:
    html = render_report(report)
    page = Page()
    page.feed(html)
    assert page.open == [] and page.references == []
    assert "http:" not in html and "https:" not in html and "@import" not in html and "url(" not in html
    assert not re.search(r"\$[a-z_]+", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert len(html) < 8e6


def test_shows_the_frames_and_patches_of_the_episode(report: Report) -> None:
    data = clips_in(render_report(report))
    assert (data["tokens"], data["views"]) == (288, ["scene", "wrist"])
    for clip, shown in zip(report.clips.values(), data["clips"], strict=True):
        assert shown["profiles"] == ["full"] * 2 + ["keep25"] * 38
        assert shown["kept"] == [288] * 2 + [72] * 38
        assert shown["env_steps"] == list(range(0, 160, 4))
        picture = image_in(shown["frames"][7])
        seen = np.concatenate(list(clip.frames[7]), axis=1).astype(int)
        assert picture.size == (288, 144)
        assert np.abs(np.asarray(picture.convert("RGB")) - seen).mean() < 6  # lossy, but that very frame
        assert shown["layers"][:2] == ["", ""], "nothing was dropped in the warm-up"
        fate = clip.telemetry[7].fate
        layers = [token_layer(fate, GRID, view, height=360, width=360) for view in range(2)]
        np.testing.assert_array_equal(
            np.asarray(image_in(shown["layers"][7])), np.concatenate(layers, axis=1)
        )


def test_shows_nothing_where_nothing_is_known(report: Report) -> None:
    clip = report.clips["reach"]
    unknown = dataclasses.replace(clip, telemetry=(None,) * len(clip.telemetry))
    shown = clips_in(render_report(dataclasses.replace(report, clips={"reach": unknown})))["clips"][0]
    assert set(shown["layers"]) == {""} and set(shown["kept"]) == {None}


def test_text_cannot_break_out(report: Report) -> None:
    clip = report.clips["reach"]
    episode = dataclasses.replace(clip.episode, instruction='</script><b onload="x">')
    hostile = dataclasses.replace(clip, episode=episode, profiles=("</script>",) * len(clip.profiles))
    html = render_report(dataclasses.replace(report, clips={"reach": hostile}))
    page = Page()
    page.feed(html)
    assert page.open == [] and "<b onload" not in html
    assert clips_in(html)["clips"][0]["profiles"][0] == "</script>"


def test_one_profile_alone_is_a_report_too(report: Report) -> None:
    plan = dataclasses.replace(report.results.plan, profiles=("full",))
    results = Results(plan, tuple(report.results.of("full")), report.results.keeps)
    html = render_report(dataclasses.replace(report, results=results, clips={}, claim=claim_of(results, 288)))
    assert "0 of 4 episodes solved, looking at 288 of 288 patches" in html
    assert "instead of" not in html


def test_begins_with_the_claim(report: Report) -> None:
    assert report.claim is not None
    html = render_report(report)
    (first,) = re.findall(r"<h1>(.*?)</h1>", html)
    assert unescape(first) == report.claim.sentence()
    assert first.startswith(
        "keep25 against full, 4 pairs of episodes: no difference of success shown, 0 solved"
    )


@pytest.mark.parametrize(
    ("live", "said"), [(None, "world waits while"), (LiveTime(50), "world runs on while")]
)
def test_says_what_time_does(report: Report, live: LiveTime | None, said: str) -> None:
    plan = dataclasses.replace(report.results.plan, live=live)
    html = render_report(dataclasses.replace(report, results=dataclasses.replace(report.results, plan=plan)))
    assert said in html and html.count("while the model thinks") == 2


def test_records_the_first_success_else_the_first_episode(report: Report) -> None:
    assert set(report.clips) == {"reach", "push"}
    for clip in report.clips.values():
        assert clip.episode.seed == 0 and clip.episode.profile == "keep25"
        assert clip.frames.shape == (40, 2, 144, 144, 3) and clip.frames.dtype == np.uint8


def test_says_when_every_look_sees_everything(report: Report) -> None:
    warm_up, gate = (
        "The first 2 looks of an episode warm the policy up",
        "While the arm is slow, the motion gate",
    )
    assert warm_up in render_report(report) and gate not in render_report(report)
    policy = dataclasses.replace(report.manifest.policy, warmup_steps=0, gate=GateSpec(3, 2))
    html = render_report(
        dataclasses.replace(report, manifest=dataclasses.replace(report.manifest, policy=policy))
    )
    assert warm_up not in html and gate in html
