"""The list of mutants is about the program as it is: each can be made, still is Python, and has tests to notice it."""

import ast

from tests.mutants import ROOT, listed


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
