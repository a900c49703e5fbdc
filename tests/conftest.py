"""What every test may rely on."""

from hypothesis import settings

# A slow machine is no failure, and a run can be repeated: examples are the same every time.
settings.register_profile("resip", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("resip")
