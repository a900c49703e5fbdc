"""Bags: MCAP rosbag2 directories, written as messages arrive and read without ROS."""
