"""The language-conditioned tabletop."""

import os
import sys

# Headless by default; a value that is set already wins. MuJoCo reads it when it is imported, so it stands here.
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
