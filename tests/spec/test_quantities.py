"""The table of quantities holds what readers show, in the order in which they show it."""

from certvae.engine.summary import COLUMNS, TAU_COLUMNS
from certvae.spec.quantities import BY_NAME, QUANTITIES, read_by
from certvae.tracking.projection import HEADLINE


def test_names_are_distinct():
    assert len(BY_NAME) == len(QUANTITIES)


def test_the_final_table_keeps_its_columns():
    """Its digest is compared between runs."""
    assert read_by("final") == tuple(name for name in COLUMNS if name not in TAU_COLUMNS)


def test_the_first_numbers_of_a_run():
    assert read_by("headline") == HEADLINE


def test_what_is_averaged_is_a_number():
    assert "text" not in {BY_NAME[name].form for name in read_by("summary")}
