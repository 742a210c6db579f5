"""Every picture of an observation is stretched and cropped, and what that takes is counted."""

from __future__ import annotations

from dataclasses import replace

import torch

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from tests.export.samples import CONFIG


def test_pictures_of_the_camera_become_the_towers() -> None:
    model = initialise(OpenVlaOft(replace(CONFIG, camera=(9, 12), crop=0.9)), seed=0)
    side = CONFIG.image_size
    pixels = torch.randint(0, 256, (1, CONFIG.views, 9, 12, 3), generator=torch.Generator().manual_seed(0))
    fitted = model.fit(pixels[0].float())
    assert model.image_size == (9, 12) and fitted.shape == (CONFIG.views, side, side, 3)
    expected = model.vision_backbone(fitted).reshape(1, CONFIG.views * CONFIG.grid.per_view, -1)
    torch.testing.assert_close(model.visual_tokens(pixels.to(torch.uint8)), expected)
    stretch, crop = 3 * 9 * side * (12 + side), 2 * 3 * side**3
    assert model.fit_macs == CONFIG.views * (stretch + crop)
    assert OpenVlaOft(CONFIG).fit_macs == 0
