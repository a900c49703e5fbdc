"""Step ManiSkill's PegInsertionSide on the CPU for some simulated seconds and print the figures as JSON.

SAPIEN wants a Vulkan GPU even to describe what would be drawn, and refuses Mesa's software one. Nothing is drawn
here, so the descriptions are left out and the physics runs anywhere.
"""

import json
import sys
import time
from typing import Any

import gymnasium
import mani_skill.envs  # pyright: ignore[reportMissingImports]
import numpy as np
import sapien  # pyright: ignore[reportMissingImports]
import torch
from mani_skill.utils.building.actor_builder import ActorBuilder  # pyright: ignore[reportMissingImports]

WARM_UP_STEPS = 10


class Undrawn:
    """Stands for a render material: accepts every call and attribute."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def leave_out_what_is_drawn() -> None:
    """Give every module of SAPIEN and ManiSkill a material that is none, and builders that add no visuals."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("sapien", "mani_skill")) and hasattr(module, "RenderMaterial"):
            module.RenderMaterial = Undrawn  # pyright: ignore[reportAttributeAccessIssue]
    for builder in ActorBuilder.__mro__:
        for name in [name for name in vars(builder) if name.startswith("add_") and "visual" in name]:
            setattr(builder, name, lambda self, *args, **kwargs: self)


def main(seconds: float) -> None:
    """Random actions of the default controller, state observations, nothing drawn."""
    torch.set_num_threads(1)
    leave_out_what_is_drawn()
    env: Any = gymnasium.make(
        "PegInsertionSide-v1", obs_mode="state", sim_backend="physx_cpu", render_backend="none", max_episode_steps=10**9
    )
    env.reset(seed=0)
    scene, control_hz = env.unwrapped.scene, env.unwrapped.control_freq
    space = env.action_space
    rng = np.random.default_rng(0)
    steps, cpu_s, counts, depths = round(seconds * control_hz), 0.0, [], []
    for _ in range(WARM_UP_STEPS):
        env.step((space.low + space.high) / 2)
    for _ in range(steps):
        action = rng.uniform(space.low, space.high)
        start_s = time.process_time()
        env.step(action)
        cpu_s += time.process_time() - start_s
        points = [point.separation for contact in scene.get_contacts() for point in contact.points]
        found = [-separation for separation in points if separation < 0]
        counts.append(len(found))
        depths += found
    figures = {
        "name": "PegInsertionSide",
        "simulator": f"ManiSkill {mani_skill.__version__}, sapien {sapien.__version__}",
        "actions": "random",
        "control_hz": control_hz,
        "timestep_s": 1.0 / env.unwrapped.sim_freq,
        "worlds": 1,
        "simulated_s": steps / control_hz,
        "steps_per_cpu_s": steps / cpu_s,
        "realtime_factor": steps / control_hz / cpu_s,
        "contacts_mean": float(np.mean(counts)),
        "penetration_p99_m": float(np.quantile(depths or [0.0], 0.99)),
        "penetration_max_m": float(np.max(depths or [0.0])),
    }
    print(json.dumps(figures))


main(float(sys.argv[1]))
