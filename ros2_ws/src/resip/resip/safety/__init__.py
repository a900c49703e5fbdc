"""What decides whether the arm may move: sources and their health, arming, and the latched stop. No ROS in here."""
