"""Steps from bags: what was seen and done at each tick, within the bounds, whatever was lost."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from demo_bags import MS, DemoBag, damage, joints_at, story
from hypothesis import given, settings
from hypothesis import strategies as st
from resip import spaces, topics
from resip.control import panda
from resip.errors import ResipError
from resip.images import ImageError
from resip.policy.synchroniser import STATE, Synchroniser
from resip.recording.reader import Bag, BagError
from resip.recording.resampling import GRIPPER_STEPS, Matching, ResamplingError, resample
from resip.recording.story import StoryError, find_bags, read_story

SKEW_NS, AGE_NS = 50 * MS, 300 * MS
FEW = settings(max_examples=15, deadline=None)


def steps_of(demo, **options):
    with tempfile.TemporaryDirectory() as folder:
        return resample(Bag(demo.write(Path(folder) / "bag")), **options)


@pytest.fixture(scope="module")
def steps():
    return steps_of(DemoBag())


class TestWholeBag:
    def test_every_tick_of_a_moving_arm_is_a_step(self, steps):
        assert steps.tick_ns.tolist() == [stamp for stamp, _, _ in DemoBag().targets()]
        assert (steps.held, steps.idle, steps.unobserved, steps.damage) == (0, 0, 0, "")

    def test_the_action_is_the_target_that_was_published(self, steps):
        targets = list(DemoBag().targets())
        np.testing.assert_array_equal(steps.action[:, :3], [position for _, position, _ in targets])
        np.testing.assert_allclose(spaces.action_pose(steps.action).matrix[0], np.diag([1.0, -1.0, -1.0]), atol=1e-12)
        assert set(steps.action[:, 9]) == {spaces.GRIPPER_OPEN}

    def test_the_state_is_that_of_the_joints_at_the_matched_stamp(self, steps):
        for row, stamp in enumerate(steps.observed_ns[STATE]):
            position, velocity = joints_at((stamp - DemoBag().start_ns) * 1e-9)
            expected = panda.robot_state(position[:7], velocity[:7], 0.06)
            np.testing.assert_array_equal(steps.robot_state[row], expected)
            np.testing.assert_array_equal(steps.joint_positions[row], position[:7])

    def test_the_pictures_are_those_of_the_matched_stamps(self, steps):
        for camera in spaces.CAMERAS:
            brightness = dict(DemoBag().frame_stamps(camera))
            for row, stamp in enumerate(steps.observed_ns[camera]):
                assert abs(int(steps.images[camera][row, 120, 160, 0]) - brightness[stamp]) <= 2

    def test_raw_images_are_kept_to_the_bit_and_halved_as_the_policy_node_does(self):
        steps = steps_of(DemoBag(duration_ms=500, raw=True, size=(480, 640)))
        brightness = dict(DemoBag().frame_stamps("wrist"))
        assert steps.images["wrist"].shape == (5, 240, 320, 3)
        assert (
            steps.images["wrist"] == np.array([brightness[s] for s in steps.observed_ns["wrist"]])[:, None, None, None]
        ).all()

    def test_it_sees_what_the_policy_nodes_synchroniser_gives_at_the_tick(self, steps):
        demo = DemoBag()
        stamps = {**{c: [s for s, _ in demo.frame_stamps(c)] for c in spaces.CAMERAS}, STATE: demo.state_stamps()}
        for row, tick in enumerate(steps.tick_ns):
            live = Synchroniser((*spaces.CAMERAS, STATE), 0.05, 0.3)
            for name, times in stamps.items():
                for stamp in times:
                    if stamp <= tick:
                        live.add(name, stamp * 1e-9, stamp)
            assert live.newest(tick * 1e-9).samples == {name: steps.observed_ns[name][row] for name in stamps}

    def test_only_targets_of_the_run_count(self):
        steps = steps_of(DemoBag(), run_s=(100.5, 101.0))
        assert steps.tick_ns.tolist() == [100_000 * MS + k * 100 * MS for k in range(5, 11)]


class TestMatching:
    @FEW
    @given(
        st.integers(8, 120),
        st.integers(0, 60),
        st.integers(0, 60),
        st.sets(st.tuples(st.sampled_from(["front", "wrist", STATE]), st.integers(0, 120)), max_size=60),
    )
    def test_what_is_matched_lies_within_the_bounds_or_the_recording_is_refused(self, period, front, wrist, dropped):
        demo = DemoBag(
            1000, camera_period_ms=period, offset_ms={"front": front, "wrist": wrist}, dropped=frozenset(dropped)
        )
        try:
            steps = steps_of(demo)
        except ResamplingError:  # refused: see the next tests
            return
        age = steps.tick_ns - steps.observed_ns["front"]
        assert ((age >= 0) & (age <= AGE_NS)).all()
        for name in ("wrist", STATE):
            assert (np.abs(steps.observed_ns[name] - steps.observed_ns["front"]) <= SKEW_NS).all()
        assert all((np.diff(steps.observed_ns[name]) >= 0).all() for name in ("front", STATE))

    @FEW
    @given(st.integers(-90_000 * 10**6, 10**18))
    def test_nothing_depends_on_when_it_was_recorded(self, shift_ns):
        demo = DemoBag(600, camera_period_ms=50)
        here, there = steps_of(demo), steps_of(DemoBag(600, camera_period_ms=50, start_ns=demo.start_ns + shift_ns))
        np.testing.assert_array_equal(there.tick_ns - here.tick_ns, shift_ns)
        for name in here.observed_ns:
            np.testing.assert_array_equal(there.observed_ns[name] - here.observed_ns[name], shift_ns)
        np.testing.assert_array_equal(there.action, here.action)
        np.testing.assert_array_equal(there.images["front"], here.images["front"])

    @FEW
    @given(st.sampled_from(["front", "wrist"]), st.integers(8, 40))
    def test_a_camera_that_stays_silent_too_long_is_named_and_the_recording_refused(self, camera, first):
        dropped = frozenset((camera, i) for i in range(first, first + 15))  # half a second
        with pytest.raises(ResamplingError, match=f"has a gap .* s into its run.*{camera}"):
            steps_of(DemoBag(dropped=dropped))

    def test_a_lost_frame_is_bridged_by_its_neighbour(self):
        lost = DemoBag().frame_stamps("front")[20][0]
        steps = steps_of(DemoBag(dropped=frozenset({("front", 20)})))
        assert lost not in steps.observed_ns["front"]
        assert len(steps) == 20

    def test_tighter_bounds_find_what_the_usual_ones_bridge(self):
        dropped = frozenset(("front", i) for i in range(20, 24))
        assert len(steps_of(DemoBag(dropped=dropped))) == 20
        with pytest.raises(ResamplingError, match="gap"):
            steps_of(DemoBag(dropped=dropped), matching=Matching(max_age_s=0.06))

    def test_steps_before_the_first_observation_are_left_out(self):
        steps = steps_of(DemoBag(dropped=frozenset(("wrist", i) for i in range(15))))
        assert steps.unobserved == 5  # the first picture of the wrist comes at 0.406 s
        assert len(steps) == 15


class TestIdle:
    def test_a_step_whose_target_does_not_move_is_left_out(self):
        steps = steps_of(DemoBag(still_ticks=frozenset(range(5, 12))))
        assert steps.idle == 7
        assert np.unique(steps.action[:, 0]).size == len(steps) == 13

    def test_ticks_without_a_target_are_counted_as_held(self):
        steps = steps_of(DemoBag(held_ticks=frozenset({4, 5, 9})))
        assert (steps.held, steps.idle, len(steps)) == (3, 0, 17)

    def test_after_the_gripper_was_switched_stillness_counts_for_eight_steps(self):
        steps = steps_of(DemoBag(3000, still_ticks=frozenset(range(3, 30)), closes_at=10))
        numbers = (steps.tick_ns - steps.tick_ns[0]) // (100 * MS)
        assert numbers.tolist() == [0, 1, 2, *range(10, 10 + GRIPPER_STEPS + 1)]

    def test_a_silent_camera_does_not_matter_while_nothing_moves(self):
        dropped = frozenset(("front", i) for i in range(20, 35))
        steps = steps_of(DemoBag(dropped=dropped, still_ticks=frozenset(range(6, 13))))
        assert steps.idle == 7


class TestUnfitBags:
    def test_a_missing_topic_is_named_with_those_that_are_there(self):
        with pytest.raises(
            ResamplingError, match=f"no message of {topics.compressed('wrist')}; it has .*{topics.JOINT_STATES}"
        ):
            steps_of(DemoBag(silent=frozenset({"wrist"})))

    def test_an_image_of_another_size_is_refused_with_its_topic(self):
        with pytest.raises(ImageError, match=rf"{topics.compressed('front')}.*\(100, 100, 3\)"):
            steps_of(DemoBag(300, size=(100, 100)))

    def test_of_a_bag_that_was_never_closed_the_whole_chunks_are_used(self, tmp_path):
        bag = Bag(DemoBag(4000, raw=True).write(tmp_path / "bag", close=False))
        steps = resample(bag)
        assert "never closed" in steps.damage
        assert 30 <= len(steps) <= 40

    def test_of_a_damaged_bag_what_comes_before_the_damage_is_used(self, tmp_path):
        path = DemoBag(6000, raw=True, size=(480, 640)).write(tmp_path / "bag") / "bag_0.mcap"
        damage(path)
        steps = resample(Bag(path))
        assert f"{path} is damaged" in steps.damage
        assert 10 <= len(steps) <= 50


class TestStory:
    def test_a_demonstration_carries_its_own(self, tmp_path):
        told = story("failure", reason="dropped", marks_s=[101.5])
        assert read_story(Bag(DemoBag(200).write(tmp_path / "bag", told))) == told

    def test_a_bag_without_one_says_what_was_looked_for(self, tmp_path):
        with pytest.raises(StoryError, match=r"does not say how it ended: expected outcome\.json"):
            read_story(Bag(DemoBag(200).write(tmp_path / "bag")))

    def test_a_folder_stands_for_the_bags_in_it_without_those_put_aside(self, tmp_path):
        for name in ("b", "a", "trial_000_aborted_1"):
            DemoBag(200).write(tmp_path / name / "bag")
        assert find_bags([tmp_path]) == [tmp_path / name / "bag" / "bag_0.mcap" for name in "ab"]

    def test_a_folder_without_bags_is_an_error_that_names_it(self, tmp_path):
        with pytest.raises(BagError, match=f"no bag at {tmp_path}"):
            find_bags([tmp_path])


def test_all_errors_are_one_line():
    with pytest.raises(ResipError) as caught:
        steps_of(DemoBag(silent=frozenset({"front"})))
    assert "\n" not in str(caught.value)
