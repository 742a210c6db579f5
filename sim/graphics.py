"""Whether this machine can load and draw the tabletop, asked before anything is promised."""

from __future__ import annotations

import os
from importlib import import_module

from saccade.proto.distribution import install_hint
from saccade.proto.errors import GraphicsError, SaccadeError, SimulatorError

_TRIAL_PX = 16


def check_graphics() -> None:
    """Load the simulator and open a renderer.

    MuJoCo binds its OpenGL back end when it is imported and fails there in many ways, so whoever wants an error that
    says what to do, and before anything else was started, calls this before importing the tabletop.

    Raises:
        SimulatorError: MuJoCo or gymnasium is not installed.
        GraphicsError: There is no OpenGL back end.
    """
    try:
        import_module("saccade.sim.tabletop.env").TabletopEnv(image_px=_TRIAL_PX).close()
    except SaccadeError:
        raise
    except ModuleNotFoundError as error:
        if error.name in {"mujoco", "gymnasium"}:
            raise SimulatorError(
                f"expected the simulator to be installed, found no {error.name}: {install_hint('sim')}."
            ) from error
        raise _no_graphics(error) from error
    except Exception as error:  # each back end fails in its own way
        raise _no_graphics(error) from error


def _no_graphics(error: Exception) -> GraphicsError:
    return GraphicsError(
        f"expected a working OpenGL back end (MUJOCO_GL={os.environ.get('MUJOCO_GL', 'unset')}), "
        f"found {type(error).__name__}: {error}. Without a screen, on Debian or Ubuntu: "
        f"apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri, and MUJOCO_GL=egl; "
        f"or apt-get install libosmesa6, and MUJOCO_GL=osmesa."
    )
