"""Entries of one kind come once a second, and none is lost from the count."""

import logging

import pytest

from saccade.runtime.servers.limited_log import PERIOD_NS, LimitedLog

LOG = logging.getLogger("tests.limited")


def test_one_entry_a_second_of_each_kind_says_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    now_ns = 5
    log = LimitedLog(LOG, lambda: now_ns)
    for kind in ("a", "b"):
        for number in range(100):
            log.write(logging.WARNING, kind, f"{kind}{number}")
    now_ns += PERIOD_NS - 1
    log.write(logging.WARNING, "a", "too early")
    now_ns += 1
    for number in range(3):
        log.write(logging.ERROR, "a", f"later {number}")
    now_ns += 2 * PERIOD_NS
    log.write(logging.WARNING, "b", "later")
    log.write(logging.WARNING, "c", "new")
    assert [record.message for record in caplog.records] == [
        "a0",
        "b0",
        "later 0 (100 more since the last such entry)",
        "later (99 more since the last such entry)",
        "new",
    ]
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_what_was_held_back_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    now_ns = 0
    log = LimitedLog(LOG, lambda: now_ns)
    for seconds in (0, 0, 1, 2):
        now_ns = seconds * PERIOD_NS
        log.write(logging.WARNING, "a", f"at {seconds}")
    assert [record.message for record in caplog.records] == [
        "at 0",
        "at 1 (1 more since the last such entry)",
        "at 2",
    ]


def test_a_traceback_comes_with_its_entry(caplog: pytest.LogCaptureFixture) -> None:
    log = LimitedLog(LOG, lambda: 0)
    for _ in range(3):
        log.write(logging.ERROR, "ValueError", "internal error", error=ValueError("of a test"))
    assert caplog.text.count("ValueError: of a test") == 1
