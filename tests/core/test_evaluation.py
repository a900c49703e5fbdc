"""What an evaluation is: its file, its policies, and whose turn it is."""

import pytest
from resip.errors import UnknownNameError
from resip.trials import evaluation
from resip.trials.evaluation import Protocol, ProtocolError, Slot

GOOD = """
task: one_leg
policies: {shipped: models/one_leg, mine: models/mine}
n: 10
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        (tmp_path / "ab.yaml").write_text(text)
        return evaluation.read_protocol(tmp_path / "ab.yaml")

    return write_and_read


class TestTurns:
    def test_every_policy_runs_once_from_every_start(self):
        found = evaluation.slots(["a", "b", "c"], n=20, seed=3, order="blind")
        assert [slot.index for slot in found] == list(range(60))
        assert {(slot.policy, slot.start) for slot in found} == {(p, s) for p in "abc" for s in range(20)}
        assert [slot.start for slot in found] == sorted(slot.start for slot in found)

    def test_chance_decides_who_goes_first(self):
        first = [slot.policy for slot in evaluation.slots(["a", "b"], 1000, 0, "blind")[::2]]
        assert 450 < first.count("a") < 550

    def test_listed_turns_are_taken_as_listed(self):
        assert evaluation.slots(["b", "a"], 1, 0, "listed") == [Slot(0, "b", 0), Slot(1, "a", 0)]

    def test_more_trials_only_add_to_the_end(self):
        few, many = (evaluation.slots(["a", "b"], n, 7, "blind") for n in (5, 9))
        assert many[: len(few)] == few

    def test_one_policy_runs_from_one_start_after_the_other(self):
        assert evaluation.slots(["a"], 2, 0, "blind") == [Slot(0, "a", 0), Slot(1, "a", 1)]


class TestPolicies:
    def test_a_folder_is_its_own_name(self):
        assert evaluation.parse_policies("models/a") == {"models/a": "models/a"}

    def test_several_have_names_if_wanted_and_keep_their_order(self):
        found = evaluation.parse_policies("mine=models/a, replay:x.npz")
        assert list(found.items()) == [("mine", "models/a"), ("replay:x.npz", "replay:x.npz")]
        assert evaluation.parse_policies(evaluation.format_policies(found)) == found

    @pytest.mark.parametrize("text", ["", "a,", "a=", "models/a,models/a", "x=a,x=b"])
    def test_what_names_nothing_or_twice_is_refused(self, text):
        with pytest.raises(ProtocolError, match=f"policies '{text}'"):
            evaluation.parse_policies(text)


class TestFile:
    def test_it_says_what_is_compared_and_the_rest_has_defaults(self, read):
        assert read(GOOD) == Protocol("one_leg", {"shipped": "models/one_leg", "mine": "models/mine"}, 10)

    def test_all_of_it_can_be_said(self, read):
        rest = "seed: 5\nrandomness: med\ntime_limit_s: 50\norder: listed\nstop_early: true\nstarts: trials/first\n"
        found = read(GOOD + rest)
        assert (found.seed, found.randomness, found.time_limit_s) == (5, "med", 50.0)
        assert (found.order, found.stop_early, found.starts) == ("listed", True, "trials/first")

    def test_an_unknown_entry_names_the_nearest(self, read):
        with pytest.raises(UnknownNameError, match="did you mean 'policies'"):
            read("task: one_leg\npolicys: {}\nn: 1\n")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("task: one_leg\n", "lacks policies, n"),
            (GOOD + "seed: first\n", "seed is 'first', expected a whole number"),
            (GOOD + "stop_early: 1\n", "stop_early is 1, expected true or false"),
            (GOOD.replace("n: 10", "n: 0"), "n is 0: ask for at least 1"),
            (GOOD + "order: random\n", "choose from blind, listed"),
            ("task: one_leg\npolicies: [a, b]\nn: 1\n", "expected a name and a folder each"),
            ("task: one_leg\npolicies: {a: 'x,y'}\nn: 1\n", "has a comma"),
            ("just text", "is no protocol"),
            ("a: [", "is no YAML"),
        ],
    )
    def test_what_is_wrong_is_named(self, read, text, message):
        with pytest.raises(Exception, match=message):
            read(text)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ProtocolError, match=r"no protocol file at .*none\.yaml"):
            evaluation.read_protocol(tmp_path / "none.yaml")
