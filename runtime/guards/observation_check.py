"""Refuses an observation that does not fit the bundle, before any of it is used.

What also needs a clock or a memory is refused elsewhere in this folder: stale, used and late in ``staleness``, the same
pixels again and again in ``frozen_camera``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ImageError, ObservationError, ProprioError
from saccade.proto.manifest import Manifest, VectorSpec, ViewSpec
from saccade.runtime.observation import Observation


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
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise ImageError(
            f"view {view.name!r}: expected uint8{list(shape)} (height, width, RGB), "
            f"found {pixels.dtype}{list(pixels.shape)}: resize or convert it first."
        )


def _check_proprio(proprio: NDArray[np.float32], spec: VectorSpec) -> None:
    if proprio.shape != (spec.dim,) or proprio.dtype.kind != "f":
        raise ProprioError(
            f"expected float32[{spec.dim}] {spec.names}, found {proprio.dtype}{list(proprio.shape)}."
        )
    finite = np.isfinite(proprio)
    if not finite.all():
        name = spec.names[int(np.argmin(finite))]
        raise ProprioError(
            f"expected finite proprioception, found {proprio.tolist()}: check the sensor of {name!r}."
        )


def _check_noise(noise: NDArray[np.float32], shape: tuple[int, int]) -> None:
    if noise.shape != shape or noise.dtype.kind != "f" or not np.isfinite(noise).all():
        raise ObservationError(
            f"noise: expected finite float32{list(shape)}, found {noise.dtype}{list(noise.shape)}."
        )
