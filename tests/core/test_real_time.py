"""What the kernel leaves to real-time threads, from the files that it tells it by."""

import pytest
from resip import real_time


@pytest.mark.parametrize(("runtime_us", "share"), [(950_000, 0.95), (-1, 1.0), (1_000_000, 1.0)])
def test_the_share_of_a_second_is_what_the_kernel_says(tmp_path, runtime_us, share):
    (tmp_path / "sched_rt_runtime_us").write_text(f"{runtime_us}\n")
    (tmp_path / "sched_rt_period_us").write_text("1000000\n")
    assert real_time.share(tmp_path) == share


def test_a_kernel_without_the_limit_leaves_them_all(tmp_path):
    assert real_time.share(tmp_path) == 1.0
