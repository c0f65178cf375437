"""Checked dataclasses: a field is coerced and bounded by its annotation when a spec is built."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.errors import ConfigFault
from certvae.spec.validation import Above, AtLeast, Below, Checked, nearest, refuse


@dataclass(frozen=True, kw_only=True)
class Leaf(Checked):
    width: Annotated[int, AtLeast(1)] = 3


@dataclass(frozen=True, kw_only=True)
class Other(Checked):
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Spec(Checked):
    share: Annotated[float, AtLeast(0), Below(1)] = 0.5
    weight: Annotated[float, Above(0)] = 1.0
    limit: Annotated[int | None, AtLeast(2)] = None
    widths: Annotated[tuple[int, ...], AtLeast(1)] = (4, 2)
    name: Literal["digits", "mnist"] = "digits"
    flag: bool = False
    text: str = ""
    leaf: Leaf = Leaf()
    either: Leaf | Other = Leaf()


def said(**fields: Any) -> str:
    with pytest.raises(ConfigFault) as caught:
        Spec(**fields)
    return str(caught.value)


class TestCoercion:
    @given(st.integers(1, 10**15))
    def test_a_whole_number_is_a_float_where_a_float_is_declared(self, value):
        found = Spec(weight=value)
        assert isinstance(found.weight, float)
        assert found == Spec(weight=float(value))

    def test_a_list_is_a_tuple(self):
        assert Spec(widths=[8, 4]).widths == (8, 4)  # pyright: ignore[reportArgumentType]

    def test_every_default_passes_its_own_bounds(self):
        assert dataclasses.asdict(Spec())["widths"] == (4, 2)

    @pytest.mark.parametrize("value", [Leaf(width=9), Other(depth=2)])
    def test_any_member_of_a_union_is_kept(self, value):
        assert Spec(either=value).either is value

    def test_replace_checks_again(self):
        with pytest.raises(ConfigFault, match="share must be"):
            dataclasses.replace(Spec(), share=1.0)

    def test_a_spec_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Spec().share = 0.1  # pyright: ignore[reportAttributeAccessIssue]


class TestRefusal:
    @pytest.mark.parametrize(
        ("fields", "wanted"),
        [
            ({"share": 1.0}, "share must be >= 0 and < 1, got 1.0 | Spec.share"),
            ({"share": -1e-12}, "share must be >= 0 and < 1, got -1e-12"),
            ({"share": math.inf}, "share must be a finite number, got inf"),
            ({"share": math.nan}, "share must be a finite number, got nan"),
            ({"share": "0.5"}, "share must be a number, got '0.5' (str)"),
            ({"share": True}, "share must be a number, got True (bool)"),
            ({"share": None}, "share must be a number, got None"),
            ({"weight": 0}, "weight must be > 0, got 0.0"),
            ({"limit": 1}, "limit must be >= 2, got 1"),
            ({"limit": 2.0}, "limit must be a whole number, got 2.0"),
            ({"widths": (4, 0)}, "widths must be >= 1, got (4, 0)"),
            ({"widths": 4}, "widths must be a list, got 4"),
            ({"widths": (4, "2")}, "widths must be a whole number, got '2' (str)"),
            ({"name": "mnits"}, "did you mean 'mnist'?"),
            ({"name": "zebra"}, "choose one of digits, mnist"),
            ({"flag": 1}, "flag must be true or false, got 1"),
            ({"text": 3}, "text must be a text, got 3"),
            ({"leaf": Other()}, "leaf must be a Leaf, got Other(depth=1)"),
            ({"either": 3}, "either must be one of Leaf, Other, got 3"),
        ],
    )
    def test_says_what_was_wanted_and_what_was_found(self, fields, wanted):
        message = said(**fields)
        assert message.startswith("E-CONF-03: ")
        assert wanted in message
        assert message.count(" | ") == 3

    def test_names_the_field_of_the_inner_spec(self):
        with pytest.raises(ConfigFault, match=r"width must be >= 1, got 0 \| Leaf\.width"):
            Spec(leaf=Leaf(width=0))

    def test_an_absent_value_is_allowed_where_it_is_declared_and_not_bounded(self):
        assert Spec(limit=None).limit is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e9, 1e9))
def test_bounds_are_what_they_say(value, limit):
    assert AtLeast(limit).allows(value) == (value >= limit)
    assert Above(limit).allows(value) == (value > limit)
    assert Below(limit).allows(value) == (value < limit)


def test_the_nearest_word_is_offered_or_all_of_them():
    assert nearest("rescu", ("full", "rescue")) == "did you mean 'rescue'?"
    assert nearest("x", ("full", "rescue")) == "choose one of full, rescue"


def test_a_refusal_names_the_last_part_of_the_place():
    fault = refuse("Objective.lambda_ts", "> 0", 0, "for no alignment read mode 'no_align'")
    assert str(fault).startswith("E-CONF-03: lambda_ts must be > 0, got 0 | Objective.lambda_ts | ")
