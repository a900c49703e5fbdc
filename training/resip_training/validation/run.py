"""`resip validate sim`: the capsule threads of training beside the true shapes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import mujoco
import numpy as np
from resip.progress import track
from resip.trials.statistics import Success
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resip_training.experts import motion, one_leg
from resip_training.sim import success, tasks
from resip_training.sim.worlds import Worlds
from resip_training.validation import sdf
from resip_training.validation.screw_rig import LEG_IN_TOP, AddCollision, ScrewRig, as_in_training

_SHAPES: Final[Mapping[str, AddCollision]] = MappingProxyType({"capsules": as_in_training, "sdf": sdf.add_sdf})

_PRESS_N: Final = 2.0
_INSERT_N: Final = 3.0
_ABOVE_HOLE_M: Final = 0.027
_INSERTED_M: Final = 0.008
_ASIDE_STEP_M: Final = 0.0005
_MOST_ASIDE_M: Final = 0.010
_SIDES: Final = MappingProxyType({"+x": (1, 0), "-x": (-1, 0), "+z": (0, 1), "-z": (0, -1)})


def validate_sim(episodes: int, seed: int, json_path: Path | None) -> dict[str, Any]:
    """Measure screw and insertion with both kinds of shape, run the expert of one_leg on the true ones, print it all.

    Args:
      episodes: of the expert, some minutes each.
      seed: first seed; the others follow it.
      json_path: file for the figures.

    Returns:
      The figures.
    """
    figures: dict[str, Any] = {
        name: measure_screw(ScrewRig(LEG_IN_TOP, add_collision=add)) for name, add in _SHAPES.items()
    }
    Console(width=None if sys.stdout.isatty() else 100).print(_table(figures))
    seeds = range(seed, seed + episodes)
    runs = [run_on_true_shapes(one) for one in track(seeds, "expert on true shapes")]
    if runs:
        succeeded = Success.of([run["success"] for run in runs], list(seeds))
        print(f"expert one_leg on true shapes: {succeeded}")
        figures["expert_on_sdf"] = {"success": succeeded.as_json(), "episodes": runs}
    figures["simulator"] = f"mujoco {mujoco.__version__}"
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def measure_screw(rig: ScrewRig) -> dict[str, Any]:
    """What one turn does, where a leg stops that is not turned, and how far aside of its hole it still goes in."""
    rig.place(height_m=0.012)
    rig.run(1.0, _PRESS_N)
    stop_m = rig.height_m
    rig.place(height_m=0.012, turn_rad=2 * np.pi)
    rig.run(0.3, _PRESS_N)
    descent_m = rig.descent_per_turn(np.deg2rad(330.0), np.deg2rad(150.0), _PRESS_N)
    rig.turn_to(0.0, _PRESS_N)
    return {
        "stop_height_m": stop_m,
        "descent_per_turn_m": descent_m,
        "assembled_after_one_turn": rig.succeeded,
        "insertion_tolerance_m": {name: _tolerance_m(rig, side) for name, side in _SIDES.items()},
    }


def _tolerance_m(rig: ScrewRig, side: tuple[int, int]) -> float:
    """Farthest that the hand may aim beside the hole for the leg to go in, in steps of half a millimetre."""
    aside_m = 0.0
    while aside_m < _MOST_ASIDE_M:
        wanted = round(aside_m + _ASIDE_STEP_M, 4)
        rig.place(_ABOVE_HOLE_M, aside_m=(side[0] * wanted, side[1] * wanted))
        rig.run(1.0, _INSERT_N)
        if rig.height_m > _INSERTED_M:
            break
        aside_m = wanted
    return aside_m


def run_on_true_shapes(seed: int) -> dict[str, Any]:
    """One episode of one_leg's expert in a scene whose top and leg have their true shapes."""
    task = tasks.ONE_LEG
    model = sdf.build(task, (one_leg.TOP, one_leg.LEG))
    worlds = Worlds(task, 1, tasks.randomness(task, "low"), model=model)
    worlds.reset(np.array([True]), [seed])
    start_s = time.process_time()
    steps, done = 0, False
    while not done and steps < task.max_steps:
        poses = worlds.part_poses()
        scene = motion.unpack(worlds.robot_state()[0], poses[0].ravel(), task.part_names)
        worlds.step(one_leg.act(scene)[None])
        steps += 1
        done = bool(success.assembled(task, worlds.part_poses()).all())
    return {"seed": seed, "success": done, "steps": steps, "steps_per_cpu_s": steps / (time.process_time() - start_s)}


def _table(figures: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="The screw with both kinds of shape")
    table.add_column("")
    for name in _SHAPES:
        table.add_column(name, justify="right")
    columns = [figures[name] for name in _SHAPES]
    table.add_row("stop of a leg that is not turned", *(f"{1e3 * one['stop_height_m']:.2f} mm" for one in columns))
    table.add_row("descent in one turn", *(f"{1e3 * one['descent_per_turn_m']:.2f} mm" for one in columns))
    table.add_row("assembled after one turn", *("yes" if one["assembled_after_one_turn"] else "no" for one in columns))
    for side in _SIDES:
        aside = (f"{1e3 * one['insertion_tolerance_m'][side]:.1f} mm" for one in columns)
        table.add_row(f"goes in when aimed beside the hole, {side}", *aside)
    return table
