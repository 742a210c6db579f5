"""Keeps the moments of one episode for each task: what the model saw, and what became of its visual tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.proto.manifest import Manifest
from saccade.runtime.observation import Telemetry
from saccade.sim.closed_loop import Episode, Moment
from saccade.sim.evaluation import Watcher


@dataclass(frozen=True)
class Clip:
    """One episode as the model saw it.

    Args:
        episode: How it went.
        frames: Images of all views at each moment, uint8 ``(moments, views, height, width, 3)`` RGB.
        telemetry: What became of the visual tokens, for each moment; None where the chunk was refused, or if the bundle
            tells nothing of its tokens.
        profiles: Name of the profile that ran, for each moment.
        env_steps: How many control steps the environment ran before each moment.
    """

    episode: Episode
    frames: NDArray[np.uint8]
    telemetry: tuple[Telemetry | None, ...]
    profiles: tuple[str, ...]
    env_steps: tuple[int, ...]


class ClipRecorder:
    """A watcher that records one profile: for each template the first success, else the first episode.

    Args:
        profile: Name of the profile to record.
        views: Names of the views, in the order of the visual tokens.
        watcher: Another watcher, which is told of everything as well.

    Attributes:
        clips: What was recorded, by template.
    """

    def __init__(self, profile: str, views: tuple[str, ...], watcher: Watcher) -> None:
        self.clips: dict[str, Clip] = {}
        self._profile = profile
        self._views = views
        self._watcher = watcher
        self._moments: list[Moment] = []

    @classmethod
    def of_smallest(cls, manifest: Manifest, profiles: Sequence[str], watcher: Watcher) -> ClipRecorder:
        """Return a recorder of the profile with the fewest visual tokens."""
        smallest = min(profiles, key=lambda name: manifest.profile(name).keep)
        return cls(smallest, tuple(view.name for view in manifest.views), watcher)

    def begin(self, template: str, profile: str, seed: int) -> Callable[[Moment], None] | None:
        """Begin to record, unless the template has a success already."""
        self._watcher.begin(template, profile, seed)
        self._moments = []
        best = self.clips.get(template)
        is_wanted = profile == self._profile and (best is None or not best.episode.is_success)
        return self._moments.append if is_wanted else None

    def end(self, episode: Episode) -> None:
        """Keep what was recorded if it is the best yet."""
        self._watcher.end(episode)
        if self._moments and (episode.is_success or episode.template not in self.clips):
            self.clips[episode.template] = self._clip(episode)

    def _clip(self, episode: Episode) -> Clip:
        seen = [[moment.observation.images[view] for view in self._views] for moment in self._moments]
        chunks = [moment.chunk for moment in self._moments]
        return Clip(
            episode=episode,
            frames=np.array(seen),
            telemetry=tuple(None if chunk is None else chunk.telemetry for chunk in chunks),
            profiles=tuple("refused" if chunk is None else chunk.profile for chunk in chunks),
            env_steps=tuple(moment.env_step for moment in self._moments),
        )
