"""How far each policy's actions are from the unpruned model's on the same frames, and what it looked at in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.selection.coverage import Shown, coverage, shown
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.scoring.scorer_bundle import open_view_scorer
from saccade.runtime.session import Session
from saccade.sim.connection import image_px, table_of
from saccade.sim.sweeps.identity import scorer_beside
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.phases import phase_of

_EXECUTE = 4


@dataclass(frozen=True)
class Recorded:
    """One episode of the unpruned model.

    Args:
        instruction: Instruction that the model was told.
        observations: Observation of each control step.
        phases: Phase of each control step, e.g. ``reach``.
        actions: Chunks of the unpruned model, float32 ``(steps, chunk, action_dim)``, physical units.
        scenes: What the tokens of each control step show.
    """

    instruction: str
    observations: tuple[Observation, ...]
    phases: tuple[str, ...]
    actions: NDArray[np.float32]
    scenes: tuple[Shown, ...]


def record(bundle: Path, seeds: range, *, threads: int) -> list[Recorded]:
    """Let the unpruned model act in every task; keep what it saw and did."""
    opened = Bundle.open(bundle)
    table = table_of(opened.manifest)
    episodes = []
    with OrtBackend(threads=threads) as backend:
        session = Session(ProgramExecutor(opened, backend))
        for template in table.templates:
            with closing(TabletopEnv(template, table=table, image_px=image_px(opened.manifest))) as env:
                patches = opened.manifest.grid.columns
                episodes += [_record_episode(env, session, seed, patches) for seed in seeds]
    return episodes


def _record_episode(env: TabletopEnv, session: Session, seed: int, patches: int) -> Recorded:
    seen, _ = env.reset(seed=seed)
    told = str(seen["instruction"])
    session.reset(told)
    observations, phases, chunks, scenes = [], [], [], []
    goes_on = True
    while goes_on:
        observation = Observation(seen["images"], seen["proprio"], 0, len(observations) + 1)
        observations.append(observation)
        phases.append(phase_of(env.world).value)
        scenes.append(shown(env, patches))
        chunk = session.act(observation, FULL_PROFILE)
        chunks.append(chunk.actions)
        for action in chunk.actions[:_EXECUTE]:
            goes_on = goes_on and env.advance(action)
        seen = env.observe()
    return Recorded(told, tuple(observations), tuple(phases), np.stack(chunks), tuple(scenes))


def replay(bundle: Path, episodes: Sequence[Recorded], *, threads: int) -> dict[str, dict[str, Any]]:
    """Replay recorded frames through every pruned profile of a bundle, with its view scorer if one lies beside it.

    Returns:
        Profile to phase (and ``all``) to: ``mean_mm`` and ``p95_mm``, the distance between translations of the pruned
        and the unpruned chunk's executed actions; ``gripper`` the share of executed actions with another gripper
        command; ``steps`` that were pruned. And profile to ``seen``: see
        :func:`benchmarks.selection.coverage.coverage`.
    """
    opened = Bundle.open(bundle)
    found: dict[str, dict[str, Any]] = {}
    beside = scorer_beside(bundle)
    with ExitStack() as stack:
        backend = stack.enter_context(OrtBackend(threads=threads))
        scorer = (
            None
            if beside is None
            else stack.enter_context(open_view_scorer(beside, backend, opened.manifest))
        )
        session = Session(ProgramExecutor(opened, backend), scorer=scorer)
        for profile in opened.manifest.profiles:
            if profile.name == FULL_PROFILE:
                continue
            found[profile.name] = _replay_profile(session, profile.name, episodes)
    return found


def _replay_profile(session: Session, profile: str, episodes: Sequence[Recorded]) -> dict[str, Any]:
    distances: dict[str, list[float]] = defaultdict(list)
    grips: dict[str, list[float]] = defaultdict(list)
    kept: list[NDArray[np.int64]] = []
    scenes: list[Shown] = []
    for episode in episodes:
        session.reset(episode.instruction)
        for observation, phase, whole, scene in zip(
            episode.observations, episode.phases, episode.actions, episode.scenes, strict=True
        ):
            chunk = session.act(replace(observation, wants_telemetry=True), profile)
            if chunk.profile == FULL_PROFILE or chunk.telemetry is None:
                continue
            kept.append(chunk.telemetry.kept)
            scenes.append(scene)
            ours, theirs = chunk.actions[:_EXECUTE], whole[:_EXECUTE]
            distance = float(np.linalg.norm(ours[:, :3] - theirs[:, :3], axis=1).mean())
            other_grip = float(((ours[:, 3] > 0.5) != (theirs[:, 3] > 0.5)).mean())
            for key in (phase, "all"):
                distances[key].append(distance)
                grips[key].append(other_grip)
    errors: dict[str, Any] = {
        phase: {
            "mean_mm": round(1e3 * float(np.mean(values)), 4),
            "p95_mm": round(1e3 * float(np.quantile(values, 0.95)), 4),
            "gripper": round(float(np.mean(grips[phase])), 4),
            "steps": len(values),
        }
        for phase, values in sorted(distances.items())
    }
    return {**errors, "seen": coverage(kept, scenes)}
