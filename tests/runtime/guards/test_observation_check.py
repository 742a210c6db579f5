# ruff: noqa: E501 - tables of cases, one a line
"""What does not fit the bundle is refused by name; whatever the manifest allows passes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from saccade.proto import errors
from saccade.proto.manifest import Manifest, read_manifest
from saccade.proto.tensor_names import NOISE
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.runtime.guards.observation_check import check_observation
from saccade.runtime.observation import Observation
from tests.tiny_bundle import CHUNK, SIDE, tiny_observation, write_tiny_bundle

NOISE_DIM = 5
F32 = np.float32


def changed(**changes: Any) -> Observation:
    return dataclasses.replace(tiny_observation(), **changes)


def with_image(pixels: Any) -> Observation:
    return changed(images={**tiny_observation().images, "wrist": pixels})


UNUSABLE = {
    "size": (with_image(np.zeros((9, 8, 3), np.uint8)), errors.ImageError, r"view 'wrist': expected uint8\[8, 8, 3\] .* found uint8\[9, 8, 3\]: resize"),
    "dtype": (with_image(np.zeros((8, 8, 3), F32)), errors.ImageError, r"found float32\[8, 8, 3\]"),
    "channels": (with_image(np.zeros((8, 8), np.uint8)), errors.ImageError, r"found uint8\[8, 8\]"),
    "missing view": (changed(images={"scene": np.zeros((8, 8, 3), np.uint8)}), errors.ImageError, r"expected the views \['scene', 'wrist'\], found \['scene'\]"),
    "unknown view": (changed(images={**tiny_observation().images, "top": np.zeros((8, 8, 3), np.uint8)}), errors.ImageError, "'top'"),
    "NaN": (changed(proprio=np.array([0.1, np.nan], F32)), errors.ProprioError, "expected finite proprioception, found .*nan.*: check the sensor of 'y'"),
    "infinity": (changed(proprio=np.array([-np.inf, 0], F32)), errors.ProprioError, "sensor of 'x'"),
    "width": (changed(proprio=np.zeros(3, F32)), errors.ProprioError, r"expected float32\[2\] .* found float32\[3\]"),
    "kind": (changed(proprio=np.zeros(2, np.int64)), errors.ProprioError, "found int64"),
    "half": (changed(proprio=np.zeros(2, np.float16)), errors.ProprioError, r"expected float32\[2\] .* found float16\[2\]"),
    "a list": (changed(proprio=[0.0, 0.0]), errors.ProprioError, r"expected float32\[2\] .* found list"),
    "no array": (with_image([[0]]), errors.ImageError, "view 'wrist': .* found list"),
}  # fmt: skip
"""Of the tiny bundle: observation, error, what its message says."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny"))


@pytest.fixture(scope="module")
def drawing(manifest: Manifest) -> Manifest:
    """Manifest of a bundle that draws actions out of noise."""
    noise = TensorSpec(
        NOISE, "float32", (1, CHUNK, NOISE_DIM), ("batch", "chunk", "noise"), "1", TensorRole.HOST
    )
    return dataclasses.replace(manifest, noise_dim=NOISE_DIM, tensors=(*manifest.tensors, noise))


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_does_not_fit_is_refused_by_name(manifest: Manifest, case: str) -> None:
    observation, kind, message = UNUSABLE[case]
    with pytest.raises(kind, match=message):
        check_observation(observation, manifest)


@given(
    pixels=npst.arrays(np.uint8, (SIDE, SIDE, 3)),
    proprio=npst.arrays(F32, 2, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
)
def test_whatever_the_manifest_allows_passes(
    manifest: Manifest, pixels: np.ndarray[Any, Any], proprio: np.ndarray[Any, Any]
) -> None:
    check_observation(dataclasses.replace(with_image(pixels), proprio=proprio), manifest)


@given(pixels=npst.arrays(npst.scalar_dtypes(), npst.array_shapes(max_dims=4, max_side=SIDE)))
def test_every_other_array_is_refused_as_an_image(manifest: Manifest, pixels: np.ndarray[Any, Any]) -> None:
    if (pixels.dtype, pixels.shape) == (np.dtype(np.uint8), (SIDE, SIDE, 3)):
        return
    with pytest.raises(errors.ImageError, match="view 'wrist': expected uint8"):
        check_observation(with_image(pixels), manifest)


@pytest.mark.parametrize(
    "noise",
    [np.zeros((CHUNK, NOISE_DIM + 1), F32), np.zeros((CHUNK, NOISE_DIM), int), np.full((CHUNK, NOISE_DIM), np.nan)],
    ids=["shape", "kind", "NaN"],
)  # fmt: skip
def test_noise_that_cannot_be_used_is_refused(drawing: Manifest, noise: np.ndarray[Any, Any]) -> None:
    with pytest.raises(errors.ObservationError, match=r"noise: expected finite float32\[3, 5\], found "):
        check_observation(changed(noise=noise), drawing)


def test_noise_is_the_callers_or_nobodys(manifest: Manifest, drawing: Manifest) -> None:
    check_observation(changed(noise=np.zeros((CHUNK, NOISE_DIM), F32)), drawing)
    check_observation(changed(noise=None), drawing)
    check_observation(changed(noise=np.zeros((1, 1), F32)), manifest)  # which draws nothing out of it
