"""The histogram is drawn from the numbers, whatever they are."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from saccade.sim.report.latency_chart import latency_histogram

LATENCIES = st.lists(st.integers(1, 10**11), max_size=60)


@given(st.dictionaries(st.sampled_from(["full", "keep50", "<&>"]), LATENCIES))
def test_is_well_formed_whatever_was_measured(latencies: dict[str, list[int]]) -> None:
    svg = latency_histogram(latencies)
    drawn = sum(bool(values) for values in latencies.values())
    if not drawn:
        assert svg == ""
        return
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    assert len(root.findall("polygon")) == drawn
    assert "nan" not in svg and "inf" not in svg


def test_marks_the_median() -> None:
    svg = latency_histogram({"full": [10_000_000] * 3 + [30_000_000], "keep25": [5_000_000]})
    assert "full p50 10.0 ms" in svg and "keep25 p50 5.0 ms" in svg
