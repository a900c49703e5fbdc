"""Step robosuite's NutAssemblyRound for some simulated seconds and print the figures as JSON."""

import json
import sys
import time

import mujoco
import numpy as np
import robosuite  # pyright: ignore[reportMissingImports]

CONTROL_HZ = 20
WARM_UP_STEPS = 10  # its first steps compile code


def main(seconds: float) -> None:
    """Random actions of the default controller, state observations, nothing drawn."""
    env = robosuite.make(
        "NutAssemblyRound",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        control_freq=CONTROL_HZ,
        ignore_done=True,
    )
    env.reset()
    low, high = env.action_spec
    rng = np.random.default_rng(0)
    steps, cpu_s, counts, depths = round(seconds * CONTROL_HZ), 0.0, [], []
    for _ in range(WARM_UP_STEPS):
        env.step((low + high) / 2)
    for _ in range(steps):
        action = rng.uniform(low, high)
        start_s = time.process_time()
        env.step(action)
        cpu_s += time.process_time() - start_s
        found = [-contact.dist for contact in env.sim.data.contact[: env.sim.data.ncon] if contact.dist < 0]
        counts.append(len(found))
        depths += found
    figures = {
        "name": "NutAssemblyRound",
        "simulator": f"robosuite {robosuite.__version__}, mujoco {mujoco.__version__}",
        "actions": "random",
        "control_hz": CONTROL_HZ,
        "timestep_s": float(env.sim.model.opt.timestep),
        "worlds": 1,
        "simulated_s": steps / CONTROL_HZ,
        "steps_per_cpu_s": steps / cpu_s,
        "realtime_factor": steps / CONTROL_HZ / cpu_s,
        "contacts_mean": float(np.mean(counts)),
        "penetration_p99_m": float(np.quantile(depths or [0.0], 0.99)),
        "penetration_max_m": float(np.max(depths or [0.0])),
    }
    print(json.dumps(figures))


main(float(sys.argv[1]))
