"""Whoever asked is told once that the last phase has begun."""

from __future__ import annotations

from saccade.runtime.servers.drain import Drain


def test_everyone_who_asked_is_told_once() -> None:
    drain, told = Drain(), []
    drain.when_begun(lambda: told.append("first"))
    forget = drain.when_begun(lambda: told.append("second"))
    forget()
    assert not drain.has_begun and told == []
    drain.begin()
    drain.begin()
    assert drain.has_begun and told == ["first"]


def test_whoever_asks_later_is_told_at_once() -> None:
    drain, told = Drain(), []
    drain.begin()
    drain.when_begun(lambda: told.append("late"))()
    assert told == ["late"]
