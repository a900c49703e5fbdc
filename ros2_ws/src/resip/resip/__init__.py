"""resip: residual RL for precise assembly, the robot side.

The package is a pure core (numpy, torch, grpc) with thin ROS 2 nodes around it: only
``resip.nodes`` imports rclpy.
"""

__version__ = "0.1.0"
