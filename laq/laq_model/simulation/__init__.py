"""Meta-World episodes with known actions, depth and cameras (extra ``[sim]``); nothing else imports the simulator."""

import os

# MuJoCo chooses its off-screen graphics when it is imported, so this must come first. MUJOCO_GL=osmesa works too.
os.environ.setdefault("MUJOCO_GL", "egl")
