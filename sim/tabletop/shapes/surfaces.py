"""Textures of table, floor and belt, computed: no asset files."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

_SIDE = 128
_REPEAT = 2.0
"""How often a texture fits on the table, each way."""
BELT_FORWARD, BELT_BACKWARD = "belt_forward", "belt_backward"
"""Arrows that point along +y and -y: in which direction the belt runs can be seen in one image."""


def add_surfaces(spec: mujoco.MjSpec) -> None:
    """Add one material for each surface and each direction of the belt."""
    rng = np.random.default_rng(0)
    for name, draw in GROUNDS.items():
        _add_material(spec, name, draw(rng), (_REPEAT, _REPEAT))
    arrows = _arrows()
    _add_material(spec, BELT_FORWARD, arrows, (1, 46))
    _add_material(spec, BELT_BACKWARD, arrows[::-1], (1, 46))


def _add_material(spec: mujoco.MjSpec, name: str, grey: np.ndarray, repeat: tuple[float, float]) -> None:
    """Add a grey texture, float ``(height, width)`` in 0 to 1; the material's colour tints it."""
    pixels = np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    texture = spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=pixels.shape[1],
        height=pixels.shape[0],
        nchannel=3,
    )
    texture.data = pixels.tobytes()
    material = spec.add_material(name=name, texrepeat=repeat)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _smooth_noise(rng: np.random.Generator, cells: tuple[int, int]) -> np.ndarray:
    """Noise of so many cells down and across, interpolated to the texture's size: ``(side, side)`` in 0 to 1."""
    coarse = rng.random(cells)
    coarse = np.concatenate([coarse, coarse[:1]])
    coarse = np.concatenate([coarse, coarse[:, :1]], axis=1)
    at = [np.linspace(0, count, _SIDE, endpoint=False) for count in cells]
    rows = np.array([np.interp(at[0], np.arange(cells[0] + 1), column) for column in coarse.T]).T
    return np.array([np.interp(at[1], np.arange(cells[1] + 1), row) for row in rows])


def _wood(rng: np.random.Generator) -> np.ndarray:
    boards = np.repeat(rng.uniform(0.0, 0.14, 4), _SIDE // 4)[:, None]
    seams = (np.arange(_SIDE) % (_SIDE // 4) < 2)[:, None] * 0.25
    return 0.95 - boards - seams - 0.22 * _smooth_noise(rng, (64, 4))


def _checks(rng: np.random.Generator) -> np.ndarray:
    odd = (np.arange(_SIDE) // (_SIDE // 4)) % 2
    return 0.92 - 0.22 * (odd[:, None] ^ odd[None]) - 0.05 * rng.random((_SIDE, _SIDE))


def _stone(rng: np.random.Generator) -> np.ndarray:
    return 0.98 - 0.25 * _smooth_noise(rng, (6, 6)) - 0.15 * _smooth_noise(rng, (40, 40))


def _cloth(rng: np.random.Generator) -> np.ndarray:
    thread = 0.5 + 0.5 * np.sin(np.arange(_SIDE) * 2 * np.pi / 8)
    return 0.95 - 0.1 * thread[:, None] - 0.1 * thread[None] - 0.1 * _smooth_noise(rng, (16, 16))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    return np.tile(0.92 - 0.2 * ((np.arange(_SIDE) // 16) % 2), (_SIDE, 1)) - 0.05 * rng.random(
        (_SIDE, _SIDE)
    )


def _plain(rng: np.random.Generator) -> np.ndarray:
    return 0.93 - 0.04 * rng.random((_SIDE, _SIDE))


def _arrows() -> np.ndarray:
    """One bright arrow head on a dark belt; it points towards higher rows."""
    row, column = np.mgrid[0:_SIDE, 0:_SIDE]
    tip = row + np.abs(column - _SIDE / 2)
    return np.where((tip > 0.65 * _SIDE) & (tip < 0.95 * _SIDE), 0.95, 0.45)


GROUNDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "wood": _wood,
    "checks": _checks,
    "stone": _stone,
    "cloth": _cloth,
    "stripes": _stripes,
    "plain": _plain,
}
"""What the table or the floor may be made of."""
