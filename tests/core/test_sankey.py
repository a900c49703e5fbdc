"""The diagram of how far trials got."""

import re

from resip.trials import sankey

MARKS = ("corner", "grasp", "insert", "screw", "complete")


def test_a_trial_that_did_all_goes_through_every_mark():
    assert sankey.paths(MARKS, [set(MARKS)]) == [[(i, True) for i in range(6)]]


def test_a_trial_ends_at_the_first_mark_after_its_furthest():
    assert sankey.paths(MARKS, [{"corner", "grasp"}]) == [[(0, True), (1, True), (2, True), (3, False)]]
    assert sankey.paths(MARKS, [set()]) == [[(0, True), (1, False)]]


def test_a_mark_that_was_passed_over_is_missed_on_the_way():
    assert sankey.paths(MARKS, [{"grasp"}]) == [[(0, True), (1, False), (2, True), (3, False)]]


def test_nodes_and_flows_are_as_high_as_their_trials():
    svg = sankey.draw(MARKS, [set(MARKS)] * 3 + [{"corner"}])
    heights = [float(text) for text in re.findall(r'<rect[^>]* height="([\d.]+)"', svg)]
    assert heights == [150.0, 150.0, 37.5, 112.5, 112.5, 112.5, 112.5]
    assert "<title>corner to no grasp: 1</title>" in svg
    assert svg.count("<path") == 6
    assert "3</text>" in svg
    assert "1 missed</text>" in svg


def test_without_trials_there_is_nothing_to_draw():
    assert sankey.draw(MARKS, []) == ""
