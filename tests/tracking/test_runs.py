"""Names, parameters and points of runs."""

from certvae.canonical import plain
from certvae.tracking.runs import Point, begun, curve_points, flattened
from tests.small_rows import cell


def test_a_spec_is_flat_and_short() -> None:
    params = flattened(plain(cell(3)))
    assert params["seed"] == "3"
    assert params["protocol"] == "Rescue"
    assert params["teacher.covariance"] == "diag,tied,spherical"
    assert params["model.decoder_sees_teacher"] == "False"
    assert "study" not in params
    assert not [name for name in params if name.endswith("type")]
    assert len(params) < 100


def test_a_type_is_told_where_its_name_does_not_tell_it() -> None:
    params = flattened({"training": {"type": "Training", "epochs": 3}, "head": {"type": "SimplexHead", "beta": 5.0}})
    assert params == {"training.epochs": "3", "head": "SimplexHead", "head.beta": "5.0"}


def test_a_live_event_and_a_stored_point_are_one_point() -> None:
    stored = {"epoch": 4, "total": 2.5, "guard_active_units": 16, "guard_info": None}
    event = {"stage": "aligned", "epochs": 9, "steps": 7, "step": 0, "loss": 2.5, **stored}
    wanted = [Point("curve/total", 4, 2.5), Point("curve/guard_active_units", 4, 16.0)]
    assert curve_points(stored) == curve_points(event) == wanted


def test_what_is_not_finite_is_no_point() -> None:
    assert curve_points({"epoch": 1, "a": float("nan"), "b": float("inf"), "c": None, "d": "text", "e": 1.0}) == [
        Point("curve/e", 1, 1.0)
    ]


def test_a_timestamp_follows_from_the_step() -> None:
    assert Point("a", 7, 0.0).timestamp == 7000


def test_cells_of_one_config_have_one_parent() -> None:
    (parent, child), (same, other) = begun(cell(0), "full"), begun(cell(1), "full")
    assert parent == same
    assert child.key != other.key
    assert child.parent == other.parent == parent.key
