"""Refuses an observation that does not fit the bundle, before any of it is used.

What also needs a clock or a memory is refused elsewhere in this folder: stale, used and late in ``staleness``, the same
pixels again and again in ``frozen_camera``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ImageError, ObservationError, ProprioError
from saccade.proto.manifest import Manifest, VectorSpec, ViewSpec
from saccade.runtime.observation import Observation

_FLOATS = (np.float32, np.float64)
"""Dtypes of numbers that the wire has too: in process nothing else is taken."""


def check_observation(observation: Observation, manifest: Manifest) -> None:
    """Refuse an observation that does not fit the bundle.

    Args:
        observation: Images, proprioception, and noise if the caller gives it.
        manifest: Manifest of the bundle that sees it.

    Raises:
        ImageError: A view is missing or unknown, or an image has another size or dtype than its view.
        ProprioError: Proprioception has another width or dtype, or is not finite.
        ObservationError: Noise has another shape or dtype, or is not finite.
    """
    names = [view.name for view in manifest.views]
    if observation.images.keys() != set(names):
        raise ImageError(f"expected the views {names}, found {list(observation.images)}.")
    for view in manifest.views:
        _check_image(observation.images[view.name], view)
    _check_proprio(observation.proprio, manifest.proprio)
    if observation.noise is not None and manifest.noise_dim:
        _check_noise(observation.noise, (manifest.action.chunk, manifest.noise_dim))


def _check_image(pixels: NDArray[np.uint8], view: ViewSpec) -> None:
    shape = (view.height, view.width, 3)
    if not _is_array(pixels, shape, (np.uint8,)):
        raise ImageError(
            f"view {view.name!r}: expected uint8{list(shape)} (height, width, RGB), "
            f"found {_described(pixels)}: resize or convert it first."
        )


def _check_proprio(proprio: NDArray[np.float32], spec: VectorSpec) -> None:
    if not _is_array(proprio, (spec.dim,), _FLOATS):
        raise ProprioError(f"expected float32[{spec.dim}] {spec.names}, found {_described(proprio)}.")
    finite = np.isfinite(proprio)
    if not finite.all():
        name = spec.names[int(np.argmin(finite))]
        raise ProprioError(
            f"expected finite proprioception, found {proprio.tolist()}: check the sensor of {name!r}."
        )


def _check_noise(noise: NDArray[np.float32], shape: tuple[int, int]) -> None:
    if not _is_array(noise, shape, _FLOATS) or not np.isfinite(noise).all():
        raise ObservationError(f"noise: expected finite float32{list(shape)}, found {_described(noise)}.")


def _is_array(value: Any, shape: tuple[int, ...], dtypes: tuple[type, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.shape == shape and value.dtype in dtypes


def _described(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
