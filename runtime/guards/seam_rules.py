"""What a daemon holds the chunks of every session to: the bundle's limits, narrowed by the operator's."""

from __future__ import annotations

import logging

from saccade.proto.errors import InputError, LimitsError, ManifestError
from saccade.proto.manifest import Manifest
from saccade.runtime.guards.seam_limiter import SeamLimiter, pose_columns
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.motion.operator_limits import OperatorLimits

_LOG = logging.getLogger(__name__)


class SeamRules:
    """Makes a limiter for each session.

    A bundle whose actions cannot be followed from one to the next (velocities, say) has none, which is logged; its
    chunks are limited each by itself. If somebody asked for more, that is refused.

    Args:
        manifest: Manifest of the bundle.
        operator: Limits of this cell; None = the bundle's own.
        refuses: Whether a chunk that breaks a limit is refused instead of moved.

    Raises:
        LimitsError: The operator's limits widen the bundle's or are not for its axes, or what was asked for cannot be
            held for this bundle.

    Attributes:
        operator_json: The operator's limits as JSON text; empty = none.
    """

    def __init__(
        self, manifest: Manifest, operator: OperatorLimits | None = None, *, refuses: bool = False
    ) -> None:
        self.operator_json = "" if operator is None else operator.to_text()
        self._refuses = refuses
        self._columns: tuple[int, ...] = ()
        self._limits: MotionLimits | None = None
        try:
            limits = MotionLimits.of(manifest.limits, manifest.action)
            if operator is not None:
                limits = limits.narrowed(operator)
            self._columns = pose_columns(
                limits, manifest.action.units, manifest.proprio.names, manifest.proprio.units
            )
            self._limits = limits
            self.limiter()
        except LimitsError:
            raise
        except (ManifestError, InputError) as error:
            if operator is not None or refuses:
                raise LimitsError(
                    f"expected a bundle whose chunks can be limited one after the other, found: {error.message}"
                ) from error
            self._limits = None
            _LOG.warning("chunks are limited each by itself alone: %s", error.message)

    def limiter(self) -> SeamLimiter | None:
        """Return a limiter for a new session; None for a bundle that has none."""
        if self._limits is None:
            return None
        return SeamLimiter(self._limits, refuses=self._refuses, pose_columns=self._columns)
