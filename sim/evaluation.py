"""An evaluation: every task at every profile, on the same held-out seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from saccade.proto.errors import SimulatorError, UnknownTaskError
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.provenance import provenance
from saccade.sim.closed_loop import DEFAULT_EXECUTE, Episode, Moment, run_episode
from saccade.sim.connection import Connection, image_px
from saccade.sim.driven_episode import MotionPlan, run_driven_episode
from saccade.sim.live_time import LiveTime
from saccade.sim.scoring import Score, score, step_latencies_ns
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.table import Table

ALL_TASKS = "all"


@dataclass(frozen=True)
class EvaluationPlan:
    """What an evaluation runs.

    Args:
        templates: Task templates, in order.
        profiles: Names of the bundle's profiles.
        seeds: Seeds of the episodes, held out of training; every template and profile runs them all.
        execute: How many actions of each chunk are executed.
        is_told_wrong: Whether to tell the model another task (control).
        live: How much simulated time a control step takes; None = the world waits.
        opening: How many control steps at the start of each episode run ``full`` whatever the policy.
        motion: How chunks become commands at the arm's own rate; None = the first ``execute`` actions of each are
            executed as they are. Only in live time.

    Raises:
        SimulatorError: ``execute`` is below 1, ``opening`` below 0, a template or profile is missing or named twice, or
            ``motion`` is asked for in a world that waits.
    """

    templates: tuple[str, ...]
    profiles: tuple[str, ...]
    seeds: range
    execute: int = DEFAULT_EXECUTE
    is_told_wrong: bool = False
    live: LiveTime | None = None
    opening: int = 0
    motion: MotionPlan | None = None

    def __post_init__(self) -> None:
        if self.execute < 1:
            raise SimulatorError(f"expected to execute at least 1 action of a chunk, found {self.execute}.")
        if self.opening < 0:
            raise SimulatorError(f"expected an opening of 0 control steps or more, found {self.opening}.")
        if self.motion is not None and self.live is None:
            raise SimulatorError("expected live time with a motion, found a world that waits.")
        for what, names in (("tasks", self.templates), ("profiles", self.profiles)):
            if not names or len(set(names)) != len(names):
                raise SimulatorError(f"expected {what}, each named once, found {', '.join(names) or 'none'}.")


class Watcher(Protocol):
    """Follows an evaluation: a progress display, a recorder."""

    def begin(self, template: str, profile: str, seed: int) -> Callable[[Moment], None] | None:
        """Note that an episode begins, and return what shall see its moments, if anything."""
        ...

    def end(self, episode: Episode) -> None:
        """Note that the episode that began last has ended."""


class Unwatched:
    """A watcher that looks at nothing."""

    def begin(self, template: str, profile: str, seed: int) -> Callable[[Moment], None] | None:
        """Watch no moments."""

    def end(self, episode: Episode) -> None:
        """Ignore the end of an episode."""


@dataclass(frozen=True)
class Results:
    """Everything that was run.

    Args:
        plan: What was to be run.
        episodes: Every episode, in the order in which they ran.
        keeps: How many visual tokens survive in each profile of the bundle.
    """

    plan: EvaluationPlan
    episodes: tuple[Episode, ...]
    keeps: Mapping[str, int]

    def of(self, profile: str, template: str | None = None) -> list[Episode]:
        """Return the episodes of a profile, and of a template if one is given."""
        return [
            episode
            for episode in self.episodes
            if episode.profile == profile and template in (None, episode.template)
        ]

    def scores(self) -> list[Score]:
        """Return one row for each template and profile; then, if there are several templates, one for each profile."""
        plan = self.plan
        rows = [
            score(template, profile, self.of(profile, template), self.keeps)
            for template in plan.templates
            for profile in plan.profiles
        ]
        if len(plan.templates) > 1:
            rows += [self.pooled(profile) for profile in plan.profiles]
        return rows

    def pooled(self, profile: str) -> Score:
        """Return the row of a profile over all templates."""
        return score(ALL_TASKS, profile, self.of(profile), self.keeps)


def check_tasks(templates: tuple[str, ...], table: Table) -> None:
    """Refuse names that are not task templates of a table.

    Raises:
        UnknownTaskError: A name is no task template, or there is none.
    """
    unknown = [template for template in templates if template not in table.templates]
    if unknown or not templates:
        raise UnknownTaskError(
            f"expected tasks out of {', '.join(table.templates)}, found {', '.join(map(repr, unknown)) or 'none'}: "
            f"name them as in --tasks reach,push."
        )


def evaluate(connection: Connection, plan: EvaluationPlan, watcher: Watcher) -> Results:
    """Run a plan; profiles alternate from episode to episode, so that a slow minute slows all of them.

    Raises:
        UnknownTaskError: A template is none of the table's.
        SimulatorError: More actions are to be executed than a chunk has.
        SaccadeError: Whatever the robot raises.
    """
    table = connection.table
    check_tasks(plan.templates, table)
    chunk = connection.manifest.action.chunk
    if plan.execute > chunk:
        raise SimulatorError(
            f"expected to execute at most the {chunk} actions of a chunk, found {plan.execute}."
        )
    episodes: list[Episode] = []
    px = image_px(connection.manifest)
    for template in plan.templates:
        with closing(TabletopEnv(template, table=table, image_px=px)) as env:
            for seed in plan.seeds:
                for profile in plan.profiles:
                    watch = watcher.begin(template, profile, seed)
                    episode = _run_one(connection, env, plan, seed=seed, profile=profile, watch=watch)
                    episodes.append(episode)
                    watcher.end(episode)
    keeps = {profile.name: profile.keep for profile in connection.manifest.profiles}
    return Results(plan, tuple(episodes), keeps)


def _run_one(
    connection: Connection,
    env: TabletopEnv,
    plan: EvaluationPlan,
    *,
    seed: int,
    profile: str,
    watch: Callable[[Moment], None] | None,
) -> Episode:
    if plan.motion is None or plan.live is None:
        return run_episode(
            env,
            connection.robot,
            seed=seed,
            profile=profile,
            execute=plan.execute,
            opening=plan.opening,
            is_told_wrong=plan.is_told_wrong,
            live=plan.live,
            watch=watch,
        )
    return run_driven_episode(
        env,
        connection.robot,
        seed=seed,
        profile=profile,
        limits=MotionLimits.of(connection.manifest.limits, connection.manifest.action),
        plan=plan.motion,
        live=plan.live,
        is_told_wrong=plan.is_told_wrong,
        opening=plan.opening,
        watch=watch,
    )


def results_to_json(results: Results, connection: Connection) -> dict[str, Any]:
    """Return results as plain JSON values: provenance, settings, scores, and every episode compactly."""
    plan, manifest = results.plan, connection.manifest
    return {
        **provenance(),
        "bundle": {"name": manifest.name, "created": manifest.created, "policy": manifest.policy.name},
        "engine": connection.engine,
        "transport": connection.transport,
        "seeds": [plan.seeds.start, plan.seeds.stop],
        "execute": plan.execute,
        "opening": plan.opening,
        "is_told_wrong": plan.is_told_wrong,
        "table": connection.table.name,
        "time": time_to_json(plan.live),
        **({} if plan.motion is None else {"motion": _motion_to_json(plan.motion)}),
        "scores": [score_to_json(row) for row in results.scores()],
        "cells": [
            cell_to_json(results.of(profile, template))
            for template in plan.templates
            for profile in plan.profiles
        ],
    }


def _motion_to_json(motion: MotionPlan) -> dict[str, Any]:
    watchdog_ms = None if motion.watchdog_ns is None else motion.watchdog_ns / 1e6
    return {"mode": motion.mode.value, "watchdog_ms": watchdog_ms}


def time_to_json(live: LiveTime | None) -> dict[str, Any]:
    """Return what time does while the model thinks, as plain JSON values: it waits, or it is live."""
    return {"is_live": live is not None, "latency_ms": None if live is None else live.latency_ms}


def score_to_json(row: Score) -> dict[str, Any]:
    """Return a score as plain JSON values."""
    low, high = row.success.interval
    return {
        "task": row.template,
        "profile": row.profile,
        "successes": row.success.successes,
        "episodes": row.success.episodes,
        "success": round(row.success.rate, 4),
        "interval95": [round(low, 4), round(high, 4)],
        "told_successes": row.told.successes,
        "p50_ms": round(row.p50_ns / 1e6, 3),
        "p99_ms": round(row.p99_ns / 1e6, 3),
        "visual_tokens": round(row.visual_tokens, 1),
        "control_steps": row.control_steps,
        "full_steps": row.full_steps,
        "clamped": row.clamped,
        "refused": row.refused,
        "late": row.late,
    }


def cell_to_json(episodes: list[Episode]) -> dict[str, Any]:
    """Return the episodes of one template and profile compactly; the n-th entry is the n-th seed.

    ``ran`` is how many control steps ran each profile, those that the limiter refused left out.
    """
    first = episodes[0]
    answered = [step for episode in episodes for step in episode.control_steps if not step.is_refused]
    driven = [asdict(episode.motion) for episode in episodes if episode.motion is not None]
    return {
        "task": first.template,
        "profile": first.profile,
        "first_seed": first.seed,
        "outcomes": "".join("1" if episode.is_success else "0" for episode in episodes),
        "told_outcomes": "".join("1" if episode.is_told_done else "0" for episode in episodes),
        "env_steps": [episode.env_steps for episode in episodes],
        "control_steps": [len(episode.control_steps) for episode in episodes],
        "ran": dict(sorted(Counter(step.profile for step in answered).items())),
        "latency_us": [round(latency / 1e3) for latency in step_latencies_ns(episodes)],
        **({"motion": driven} if driven else {}),
    }
