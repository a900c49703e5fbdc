"""How fast the physics runs on a GPU, and how sound it stays: `resip bench gpu`.

Demonstrations of the expert, recorded on the CPU, are replayed in thousands of worlds at once, so that the contacts
are those of the task. Figures: control steps a second with the controller, rewards and resets in them; how deep
contacts sink; how many worlds a replay assembles (open loop, so not all) and how many diverge; and whether the
expert, closed loop, succeeds on the device as it does on the CPU.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

import mujoco
import numpy as np
import torch
import warp
from resip.trials.statistics import Success

from resip_training.experts.rollout import Trajectory, run_expert
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.warp_worlds import WarpWorlds

if TYPE_CHECKING:
    from resip_training.cli import BenchGpu

#: Deeper than parts sink under load: the physics has lost a contact.
_JUMP_M: Final = 0.005


def bench_gpu(bench: BenchGpu) -> None:
    """Take all figures, print them and write them where they are wanted.

    Raises:
      ResipError: no such GPU, or unknown names.
    """
    figures = measure(bench)
    print(json.dumps(figures, indent=2))
    if bench.json is not None:
        bench.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(bench: BenchGpu) -> dict[str, Any]:
    """Take all figures; each is printed as it comes.

    Raises:
      ResipError: no such GPU, or unknown names.
    """
    seeds = range(bench.seed, bench.seed + bench.demos)
    demos = list(run_expert(bench.task, "low", seeds, num_envs=bench.demos, threads=bench.threads))
    rows = []
    for count in bench.worlds:
        rows.append(_replay(bench, count, demos))
        print(rows[-1], flush=True)
    figures: dict[str, Any] = {"task": bench.task, "machine": _machine(bench.device), "worlds": rows}
    if bench.episodes:
        figures["expert"] = _expert(bench)
    return figures


def _machine(device: str) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else "none"
    versions = {"mujoco": mujoco.__version__, "warp": warp.__version__, "torch": torch.__version__}
    return {"gpu": gpu, "cpus": os.cpu_count(), **versions}


def _replay(bench: BenchGpu, count: int, demos: list[Trajectory]) -> dict[str, Any]:
    began_s = time.perf_counter()
    env = AssemblyEnv(bench.task, count, device=bench.device, threads=bench.threads)
    assert isinstance(env.worlds, WarpWorlds)
    assigned = [demos[i % len(demos)] for i in range(count)]
    env.reset(seed=[demo.seed for demo in assigned])
    steps = max(len(demo) for demo in demos)
    padded = np.stack([demo.action[np.minimum(np.arange(steps), len(demo) - 1)] for demo in demos], axis=1)
    which = torch.as_tensor(np.arange(count) % len(demos))
    actions = torch.as_tensor(padded)[:, which].to(env.worlds.qpos.device)
    waits = _host_waits(env, actions[0])
    env.reset(seed=[demo.seed for demo in assigned])
    _synchronize(env)
    build_s = time.perf_counter() - began_s

    succeeded, diverged = torch.zeros_like(which, dtype=torch.bool, device=actions.device), 0
    deepest_m = torch.zeros(count, device=actions.device)
    began_s = time.perf_counter()
    for step in range(steps):
        _, _, _, _, info = env.step(actions[step])
        succeeded = succeeded | info["success"]
        diverged = diverged + info["diverged"]
        deepest_m = torch.maximum(deepest_m, env.worlds.deepest_contact_m())
    _synchronize(env)
    wall_s = time.perf_counter() - began_s
    env.reset(options={"reset_mask": succeeded})  # the first settles starts to draw from
    _synchronize(env)
    began_s = time.perf_counter()
    env.reset(options={"reset_mask": succeeded})
    _synchronize(env)
    return {
        "worlds": count,
        "control_steps_per_s": round(count * steps / wall_s, 1),
        "control_steps": steps,
        "reset_s": round(time.perf_counter() - began_s, 4),
        "build_s": round(build_s, 1),
        "deepest_contact_mm": _quantiles(1e3 * deepest_m),
        "worlds_with_jumps": int((deepest_m > _JUMP_M).sum()),
        "worlds_diverged": int((torch.as_tensor(diverged) > 0).sum()),
        "replays_assembled": int(succeeded.sum()),
        "host_waits": waits,
        "device_memory_gb": _memory_gb(env),
    }


def _host_waits(env: AssemblyEnv, action: torch.Tensor) -> str | None:
    """What made the host wait for the device in a step or a reset; None if nothing did, or there is no GPU."""
    if not action.is_cuda:
        return None
    nobody = {"reset_mask": torch.zeros(env.num_envs, dtype=torch.bool, device=action.device)}
    env.step(action)  # some things are done once only
    env.reset(options=nobody)
    torch.cuda.set_sync_debug_mode("error")
    try:
        env.step(action)
        env.reset(options=nobody)
    except RuntimeError as error:
        return str(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def _device(env: AssemblyEnv) -> torch.device:
    return env.worlds.finite().device


def _synchronize(env: AssemblyEnv) -> None:
    if _device(env).type == "cuda":
        torch.cuda.synchronize(_device(env))


def _memory_gb(env: AssemblyEnv) -> float | None:
    if _device(env).type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(_device(env))
    return round((total - free) / 1e9, 2)


def _quantiles(values: torch.Tensor) -> dict[str, float]:
    median, p99, largest = torch.quantile(values.double(), torch.tensor([0.5, 0.99, 1.0]).to(values).double()).tolist()
    return {"median": round(median, 3), "p99": round(p99, 3), "max": round(largest, 3)}


def _expert(bench: BenchGpu) -> dict[str, Any]:
    seeds = list(range(bench.seed + bench.demos, bench.seed + bench.demos + bench.episodes))
    runs = run_expert(bench.task, "low", seeds, num_envs=len(seeds), threads=bench.threads, device=bench.device)
    done = sorted(runs, key=lambda run: run.seed)
    return Success.of([run.success for run in done], seeds).as_json()
