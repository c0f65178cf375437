"""The list of mutants is about the program as it is: each can be made, still is Python, and has tests to notice it."""

import ast

import pytest

from tests.mutants import ROOT, Fate, listed, told, tried


def test_every_mutant_can_be_made_and_is_python():
    for mutant in listed():
        text = (ROOT / mutant.file).read_text()
        assert text.count(mutant.old) == 1, f"{mutant.file} holds {text.count(mutant.old)} times: {mutant.old}"
        ast.parse(text.replace(mutant.old, mutant.new))


def test_the_tests_that_must_notice_are_there():
    for mutant in listed():
        for test in mutant.tests:
            path, *names = test.split("::")
            text = (ROOT / path).read_text()
            assert all(name.partition("[")[0] in text for name in names), test


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (pytest.ExitCode.OK, Fate.SURVIVED),
        (pytest.ExitCode.TESTS_FAILED, Fate.NOTICED),
        (pytest.ExitCode.INTERRUPTED, Fate.NOTICED),  # what the tests import fails
        (pytest.ExitCode.NO_TESTS_COLLECTED, Fate.NOT_RUN),
        (pytest.ExitCode.USAGE_ERROR, Fate.NOT_RUN),
        (-9, Fate.NOTICED),
    ],
)
def test_only_where_nothing_was_tried_nothing_is_said(code, fate):
    assert told(code) is fate


def test_a_process_that_ends_itself_has_noticed(tmp_path):
    (tmp_path / "test_one.py").write_text("import os\ndef test_it(): os._exit(7)")
    assert tried(["test_one.py"], tmp_path) is Fate.NOTICED
