"""Meta-World episodes with known actions, depth and cameras; only this room needs the extra ``[sim]``."""

import os
import sys

# MuJoCo chooses its off-screen graphics when it is imported, so this comes first. MUJOCO_GL=osmesa works too.
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
