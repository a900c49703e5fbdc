"""Teleoperation: input devices, what their deflection means, and the targets that follow. No ROS in here."""
