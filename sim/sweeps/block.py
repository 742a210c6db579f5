"""A block: some seeds of one template and profile with one bundle; the unit that a worker runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saccade.runtime.provenance import machine
from saccade.sim.closed_loop import DEFAULT_EXECUTE, Episode
from saccade.sim.connection import connect
from saccade.sim.course import ControlStep
from saccade.sim.evaluation import EvaluationPlan, Unwatched, evaluate
from saccade.sim.live_time import LiveTime
from saccade.sim.sweeps.identity import identity, scorer_beside

DEFAULT_SEEDS = 20
"""Seeds of a block: minutes of work, so that little is lost with a worker."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """What one worker runs at a time.

    Args:
        bundle: Name of the bundle in the results.
        path: Directory of the bundle; a view scorer beside it is ``<path>.scorer``.
        template: Task template.
        profile: Name of the bundle's profile.
        seeds: Seeds of the episodes.
        execute: How many actions of each chunk are executed.
        opening: How many control steps at the start of each episode run ``full`` whatever the policy.
        is_told_wrong: Whether to tell the model another task (control).
        live: How much simulated time a control step takes; None = the world waits.
        threads: Threads of the engine; 0 = one for each core.
    """

    bundle: str
    path: Path
    template: str
    profile: str
    seeds: range
    execute: int = DEFAULT_EXECUTE
    opening: int = 0
    is_told_wrong: bool = False
    live: LiveTime | None = None
    threads: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the bundle's place, as plain JSON values."""
        values = {**asdict(self), "seeds": [self.seeds.start, self.seeds.stop]}
        del values["path"]
        return values

    @property
    def name(self) -> str:
        """Name of the block, and of the file that holds its record: letters, digits, ``_`` and ``.``."""
        parts = [re.sub(r"[^a-z0-9.]+", "_", self.bundle.lower()), self.template, self.profile]
        parts += [f"opening{self.opening}"] if self.opening else []
        parts += ["told_wrong"] if self.is_told_wrong else []
        return ".".join([*parts, f"{self.seeds.start}_{self.seeds.stop - 1}"])

    def cut(self, seeds: int = DEFAULT_SEEDS) -> Iterator[Block]:
        """Yield blocks of at most so many seeds, in order."""
        for first in self.seeds[::seeds]:
            yield replace(self, seeds=range(first, min(first + seeds, self.seeds.stop)))


def run_block(block: Block) -> str:
    """Run a block behind a daemon of its own; return its record as JSON.

    Everything but ``timings`` is the same wherever the block is run: what was asked (``settings``), what must be equal
    among the workers of a sweep (``identity``), the ``keeps`` of the profiles, the ``episodes``.

    Raises:
        SaccadeError: Whatever the daemon or the simulator raises.
    """
    plan = EvaluationPlan(
        (block.template,),
        (block.profile,),
        block.seeds,
        block.execute,
        block.is_told_wrong,
        block.live,
        block.opening,
    )
    scorer = scorer_beside(block.path)
    with connect(block.path, threads=block.threads, view_scorer=scorer) as connection:
        found = evaluate(connection, plan, Unwatched())
    return json.dumps(
        {
            "settings": block.settings,
            "identity": identity(block.path),
            "keeps": dict(found.keeps),
            "episodes": [_episode_to_json(episode) for episode in found.episodes],
            "timings": {
                "machine": machine(),
                "latency_ns": [
                    [step.latency_ns for step in episode.control_steps] for episode in found.episodes
                ],
            },
        }
    )


def episodes_of(record: Mapping[str, Any]) -> list[Episode]:
    """Return the episodes of a block's record; the session's own timings are not in it.

    Args:
        record: Record of a block, read from JSON.
    """
    settings = record["settings"]
    latencies: Sequence[Sequence[int]] = record["timings"]["latency_ns"]
    return [
        Episode(
            template=settings["template"],
            seed=found["seed"],
            profile=settings["profile"],
            instruction=found["instruction"],
            is_success=found["is_success"],
            is_told_done=found["is_told_done"],
            env_steps=found["env_steps"],
            control_steps=tuple(
                ControlStep(latency_ns, profile, clamped, is_refused, {}, is_late)
                for latency_ns, (profile, clamped, is_refused, is_late) in zip(
                    own, found["control_steps"], strict=True
                )
            ),
        )
        for found, own in zip(record["episodes"], latencies, strict=True)
    ]


def _episode_to_json(episode: Episode) -> dict[str, Any]:
    return {
        "seed": episode.seed,
        "instruction": episode.instruction,
        "is_success": episode.is_success,
        "is_told_done": episode.is_told_done,
        "env_steps": episode.env_steps,
        "control_steps": [
            [step.profile, step.clamped, step.is_refused, step.is_late] for step in episode.control_steps
        ],
    }
