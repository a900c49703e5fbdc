"""Panda kinematics, differential IK, the joint servo and the limits that every command passes."""
