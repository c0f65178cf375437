"""Specs: a field is checked by its annotation when a spec is built, and says what was wanted, found, and to do."""

import copy
import dataclasses
import math
import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Lt, MinLen
from hypothesis import given
from hypothesis import strategies as st

from certvae.errors import ConfigFault
from certvae.spec.validation import nearest, refuse, spec


@spec
class Leaf:
    width: Annotated[int, Ge(1)] = 3


@spec
class Other:
    depth: int = 1


@spec
class Spec:
    share: Annotated[float, Ge(0), Lt(1)] = 0.5
    weight: Annotated[float, Gt(0)] = 1.0
    limit: Annotated[int, Ge(2)] | None = None
    widths: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (4, 2)
    name: Literal["digits", "mnist"] = "digits"
    flag: bool = False
    text: str = ""
    folder: Path | None = None
    leaf: Leaf = Leaf()
    either: Leaf | Other = Leaf()
    perhaps: Leaf | Other | None = None


@spec
class Required:
    name: str


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

    @given(st.floats(0, 1, exclude_max=True))
    def test_no_bit_of_a_float_is_lost(self, value):
        assert Spec(share=value).share == value

    def test_a_float_of_numpy_is_a_float(self):
        assert type(Spec(weight=np.float64(2)).weight) is float

    def test_a_list_is_a_tuple(self):
        assert Spec(widths=[8, 4]).widths == (8, 4)  # pyright: ignore[reportArgumentType]

    def test_every_default_passes_its_own_bounds(self):
        assert dataclasses.asdict(Spec())["widths"] == (4, 2)
        assert Spec(**{field.name: getattr(Spec(), field.name) for field in dataclasses.fields(Spec)}) == Spec()

    @pytest.mark.parametrize("value", [Leaf(width=9), Other(depth=2)])
    def test_any_member_of_a_union_is_kept(self, value):
        assert Spec(either=value).either is value
        assert Spec(perhaps=value).perhaps is value

    def test_an_absent_value_is_allowed_where_it_is_declared_and_not_bounded(self):
        assert Spec(limit=None).limit is None


class TestDataclass:
    def test_replace_checks_again(self):
        with pytest.raises(ConfigFault, match="share must be"):
            dataclasses.replace(Spec(), share=1.0)

    def test_a_spec_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Spec().share = 0.1  # pyright: ignore[reportAttributeAccessIssue]

    @pytest.mark.parametrize("carry", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])  # noqa: S301
    def test_arrives_in_another_process_equal_and_with_the_same_hash(self, carry):
        sent = Spec(share=0.25, leaf=Leaf(width=7))
        arrived = carry(sent)
        assert arrived == sent
        assert hash(arrived) == hash(sent)
        assert {sent: "found"}[arrived] == "found"

    def test_equal_fields_are_equal_and_other_classes_are_not(self):
        assert Spec(share=0.25) == Spec(share=0.25) != Spec(share=0.5)
        assert Leaf() != Other()


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
            ({"share": 10**400}, "share must be a number, got 1"),
            ({"weight": 0}, "weight must be > 0, got 0"),
            ({"limit": 1}, "limit must be >= 2, got 1"),
            ({"limit": 2.0}, "limit must be a whole number, got 2.0"),
            ({"limit": True}, "limit must be a whole number, got True (bool)"),
            ({"widths": (4, 0)}, "widths[1] must be >= 1, got 0 | Spec.widths[1]"),
            ({"widths": 4}, "widths must be a list, got 4"),
            ({"widths": {4, 5}}, "widths must be a list, got {4, 5}"),
            ({"widths": ()}, "widths must be a list with at least one value, got ()"),
            ({"widths": (4, "2")}, "widths[1] must be a whole number, got '2' (str)"),
            ({"name": "mnits"}, "did you mean 'mnist'?"),
            ({"name": "zebra"}, "choose one of digits, mnist"),
            ({"name": True}, "name must be one of digits, mnist, got True (bool)"),
            ({"flag": 1}, "flag must be true or false, got 1"),
            ({"text": 3}, "text must be a text, got 3"),
            ({"folder": "here"}, "folder must be a Path, got 'here' (str)"),
            ({"leaf": Other()}, "leaf must be a Leaf, got Other(depth=1)"),
            ({"leaf": {"width": 3}}, "leaf must be a Leaf, got {'width': 3}"),
            ({"either": 3}, "either must be one of Leaf, Other, got 3 | Spec.either |"),
            ({"perhaps": 3}, "perhaps must be one of Leaf, Other, got 3"),
            ({"shade": 0.5}, "shade must be a field of Spec, got 0.5"),
            ({"shade": 0.5}, "did you mean 'share'?"),
            ({"share": 2, "weight": -1}, "share must be >= 0 and < 1, got 2"),
        ],
    )
    def test_says_what_was_wanted_and_what_was_found(self, fields, wanted):
        message = said(**fields)
        assert message.startswith("E-CONF: ")
        assert wanted in message
        assert message.count(" | ") == 2

    def test_names_the_field_of_the_inner_spec(self):
        with pytest.raises(ConfigFault, match=r"width must be >= 1, got 0 \| Leaf\.width"):
            Spec(leaf=Leaf(width=0))

    @pytest.mark.parametrize(
        ("build", "wanted"),
        [
            (lambda: Leaf(3), r"given by its name, got 3 \| Leaf\.0"),  # pyright: ignore[reportCallIssue]
            (Required, r"name must be given by its name"),
        ],
    )
    def test_a_value_without_a_name_and_a_field_without_a_value(self, build, wanted):
        with pytest.raises(ConfigFault, match=wanted):
            build()


def test_the_nearest_word_is_offered_or_all_of_them():
    assert nearest("rescu", ("full", "rescue")) == "did you mean 'rescue'?"
    assert nearest("x", ("full", "rescue")) == "choose one of full, rescue"


def test_a_refusal_names_the_last_part_of_the_place():
    fault = refuse("Objective.lambda_ts", "> 0", 0, "for no alignment read mode 'no_align'")
    assert str(fault).startswith("E-CONF: lambda_ts must be > 0, got 0 | Objective.lambda_ts | ")
