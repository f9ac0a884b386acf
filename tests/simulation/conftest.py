"""The simulator, where it is installed and can draw."""

from typing import Any

import pytest

from laq_model.simulation.simulator import load_mujoco


@pytest.fixture(scope="session")
def simulator() -> Any:
    """The mujoco module; skips where Meta-World or graphics are missing."""
    pytest.importorskip("metaworld", reason="the simulator is not installed (extra [sim])")
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    try:
        mujoco.Renderer(model, 16, 16).close()
    except Exception as error:
        pytest.skip(f"no off-screen graphics here: {error}")
    return mujoco
