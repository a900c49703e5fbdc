"""What every test may rely on."""

import os

from hypothesis import settings

# A slow machine is no failure, and a run can be repeated: examples are the same every time.
settings.register_profile("resip", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("resip")

# With other processes beside this one, a second thread makes torch ten times slower.
os.environ["OMP_NUM_THREADS"] = "1"

# Nodes of this run meet each other and nobody else: not another run, nor a robot on the network.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
