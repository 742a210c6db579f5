"""Textures are computed, and the same every time."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.shapes.scene import build_model
from saccade.sim.tabletop.shapes.surfaces import BELT_BACKWARD, BELT_FORWARD, GROUNDS


def test_every_ground_has_its_texture() -> None:
    one, other = build_model(), build_model()
    np.testing.assert_array_equal(one.tex_data, other.tex_data)
    textures = []
    for name in (*GROUNDS, BELT_FORWARD, BELT_BACKWARD):
        texture = one.texture(name).id
        start = one.tex_adr[texture]
        size = one.tex_height[texture] * one.tex_width[texture] * one.tex_nchannel[texture]
        textures.append(one.tex_data[start : start + size].tobytes())
    assert len(set(textures)) == len(textures)
