"""The ROS 2 nodes: thin adapters over the core, and the only place that imports rclpy. One file a node."""
