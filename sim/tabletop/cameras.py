"""What the robot sees: RGB images of its two cameras and, for training only, which thing each pixel shows."""

from __future__ import annotations

from types import TracebackType

import mujoco
import numpy as np

from saccade.proto.errors import GraphicsError
from saccade.sim.tabletop import scene
from saccade.sim.tabletop.arm import ARM_GEOMS
from saccade.sim.tabletop.world import World

VIEWS = (scene.SCENE_CAMERA, scene.WRIST_CAMERA)


class Cameras:
    """Renders a world's views; close it, or use it as a context manager (an open renderer holds about 70 MB).

    Args:
        world: The world to look at.
        size_px: Height and width of each image, in pixels.

    Raises:
        GraphicsError: No OpenGL context can be made.
    """

    def __init__(self, world: World, size_px: int) -> None:
        self._world = world
        self.size_px = size_px
        try:
            self._renderer = mujoco.Renderer(world.model, size_px, size_px)
        except Exception as error:  # each GL back end raises its own types
            raise GraphicsError(
                "cannot render: expected a working OpenGL back end, found "
                f"{type(error).__name__}: {error}. On Debian or Ubuntu: "
                "apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri; or set MUJOCO_GL=osmesa"
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0
        self._slot_of_geom = self._geom_slots()

    def render(self, view: str) -> np.ndarray:
        """Render one view: uint8 ``(size_px, size_px, 3)`` RGB."""
        self._renderer.update_scene(self._world.data, camera=view)
        return self._renderer.render().copy()

    def render_all(self) -> dict[str, np.ndarray]:
        """Render every view, by name: each uint8 ``(size_px, size_px, 3)`` RGB."""
        return {view: self.render(view) for view in VIEWS}

    def render_slots(self, view: str) -> np.ndarray:
        """Return what each pixel shows, for training: index into the table's slots, uint8 ``(size_px, size_px)``."""
        self._renderer.enable_segmentation_rendering()
        try:
            self._renderer.update_scene(self._world.data, camera=view)
            ids = self._renderer.render()[..., 0]
        finally:
            self._renderer.disable_segmentation_rendering()
        return self._slot_of_geom[ids]  # id -1 (nothing hit) reads the last entry: background

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def __enter__(self) -> Cameras:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _geom_slots(self) -> np.ndarray:
        model, known = self._world.model, self._world.table.slots
        slots = np.zeros(model.ngeom + 1, np.uint8)
        for geom in range(model.ngeom):
            name = model.geom(geom).name
            slots[geom] = known.index("arm" if name in ARM_GEOMS else name if name in known else "background")
        return slots
