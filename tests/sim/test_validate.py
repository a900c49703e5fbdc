"""The threads that training simulates, beside the meshes' true shapes."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from resip.errors import ResipError
from resip_training.sim import tasks, threads
from resip_training.sim.tasks import one_leg, peg_hole
from resip_training.validation import sdf
from resip_training.validation.run import measure_screw
from resip_training.validation.screw_rig import LEG_IN_TOP, ScrewRig


def test_the_screw_is_measured() -> None:
    figures = measure_screw(ScrewRig(LEG_IN_TOP))
    assert figures["stop_height_m"] == pytest.approx(0.0065, abs=0.001)
    assert figures["descent_per_turn_m"] == pytest.approx(threads.PITCH_M, rel=0.06)
    assert figures["assembled_after_one_turn"]
    assert all(0.002 <= tolerance <= 0.006 for tolerance in figures["insertion_tolerance_m"].values())


def test_true_shapes_stop_an_unturned_leg_as_high_as_the_capsules_do() -> None:
    heights = []
    for rig in (ScrewRig(LEG_IN_TOP), ScrewRig(LEG_IN_TOP, add_collision=sdf.add_sdf)):
        rig.place(height_m=0.012)
        rig.run(0.6, force_n=2.0)
        heights.append(rig.height_m)
        assert not rig.succeeded
    assert heights[1] == pytest.approx(heights[0], abs=0.0015)


def test_a_scene_of_true_shapes_keeps_masses_and_the_other_parts() -> None:
    model = sdf.build(tasks.ONE_LEG, ("square_table_top", "square_table_leg4"))
    assert np.count_nonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_SDF) == 2
    for placed in tasks.ONE_LEG.parts:
        assert model.body(placed.name).mass[0] == pytest.approx(placed.part.mass_kg, rel=1e-6)
        assert model.body(placed.name).geomnum[0] == (1 if placed.part.mesh in _TRUE else 2)


_TRUE = (one_leg.SQUARE_TABLE_TOP.mesh, one_leg.SQUARE_TABLE_LEG4.mesh)


def test_a_part_without_a_mesh_has_no_other_shape() -> None:
    spec = mujoco.MjSpec()
    with pytest.raises(ResipError, match="peg has no mesh"):
        sdf.add_sdf(spec, spec.worldbody, peg_hole.PEG)
