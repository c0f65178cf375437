"""Rows at the looks of now: a view on scores that rows keep, whatever was opened since."""

import dataclasses
import io

import pytest
from rich.console import Console

from certvae.certificate import Evidence
from certvae.data.loading import load
from certvae.data.preconditions import preconditions
from certvae.engine.gate import Gate
from certvae.engine.summary import show, table_text
from certvae.looks import register, sentence, together
from certvae.looks.view import HEADS, OTHERS, RESTATED
from certvae.preconditions import warnings
from certvae.protocols import chain
from certvae.simultaneous import holm, in_sequence
from certvae.spec.parts import Data, Training
from certvae.store.artifact import read_arrays
from certvae.store.folders import discard, open_folder
from certvae.store.store import Store
from tests.small_cells import leaking, small_cell

SPEC = small_cell(training=Training(epochs=25, batch_size=32))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    data = Data(name="digits", limit=400)
    return load(data, cache=tmp_path_factory.mktemp("digits"), progress=False)


def opened(store: Store, dataset) -> list[dict]:
    """What a run of one config leaves on certify rows."""
    Gate(store, dataset.name, dataset.digest, preconditions(dataset).facts).open([SPEC])
    return chain.judge(chain.train(SPEC, dataset, store), dataset, store, "certify")


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("run") / "store")
    return store, opened(store, digits)


@pytest.fixture
def studied(run, tmp_path):
    """The store with the looks of two other names of the study."""
    store, rows = run
    names = ("second", "third")
    for name in names:
        Gate(store, "digits").open([dataclasses.replace(SPEC, study=name)])
    yield store, rows
    for path in sorted((store.path / "plan" / "looks").iterdir())[1:]:
        path.unlink()


def bounds(rows) -> list[float]:
    return [row[f"{head}population_bound"] for row in rows for head in HEADS]


def test_a_single_claim_at_one_look_is_what_the_row_says(run):
    store, rows = run
    for row in rows:
        alone = {name: value for name, value in row.items() if not name.endswith("_population_bound")}
        [now] = together(store.disk, [alone])
        assert (now["population_bound"], now["claims"]) == (row["population_bound"], 1)


def test_every_bound_of_a_row_is_one_that_the_view_restates(run):
    """But for that on the spread of the rows themselves, which no chance is in."""
    store, rows = run
    bounds = {name for row in rows for name in row if name.endswith("_bound") or name == "certified_population"}
    assert bounds - {"spread_lower_bound"} <= set(RESTATED)
    changed = {
        name
        for row, now in zip(rows, together(store.disk, rows, price=3), strict=True)
        for name in row.keys() & now.keys()
        if row[name] != now[name]
    }
    assert changed - {"looks"} <= set(RESTATED)


def test_the_claims_of_a_config_share_its_delta_by_holm(run):
    store, rows = run

    def kept(row, head):
        judged, own = (
            read_arrays(open_folder(store.disk, store.path / "obj" / row[f"key_{of}"]))
            for of in ("judged", HEADS[head])
        )
        named = {"rows": judged["reference_row"], "divergence": row["reference_divergence"], "eta": row["eta"]}
        return Evidence(scores=own[f"{head}scores"], **named).bound

    now = together(store.disk, rows)
    assert bounds(now) == holm([kept(row, head) for row in rows for head in HEADS], 0.05)
    assert {row["claims"] for row in now} == {len(rows) * len(HEADS)}
    assert 0 < sum(bound > 0 for bound in bounds(now)) < len(bounds(now))


@pytest.mark.parametrize("change", [{"environment": "e" * 64}, {"stage_version_judge": 99}])
def test_rows_of_another_machine_or_stage_are_further_claims_of_their_config(run, change):
    """Each set with a delta of its own would err as often as there are sets."""
    store, rows = run
    others = [row | change for row in rows]
    [now, beside] = together(store.disk, rows + others), together(store.disk, rows, beside=others)
    assert beside == now[: len(rows)]
    assert {row["claims"] for row in now} == {2 * len(rows) * len(HEADS)}
    assert sum(map(float, bounds(beside))) < sum(map(float, bounds(together(store.disk, rows))))


def test_each_row_is_held_to_what_was_found_of_its_own_pixels(run):
    """Another version of a decoder may give other pixels; the first row of a config decided for all of them."""
    store, rows = run
    others = [row | {"data_digest": "f" * 64, "environment": "e" * 64} for row in rows]
    register.tell(store.disk, "f" * 64, {"n": 9, "in_train": 9, "in_guard": 0, "leaked": 9, "distinct": 9})
    try:
        for given in (rows + others, others + rows):
            now = {row["data_digest"]: [] for row in given}
            for row in together(store.disk, given):
                now[row["data_digest"]].append(row)
            ours, theirs = now[rows[0]["data_digest"]], now["f" * 64]
            assert all(row["withheld"] for row in theirs)
            assert set(bounds(theirs)) == {None}
            assert not any(row["withheld"] for row in ours)
            assert any(bound is not None and bound > 0 for bound in bounds(ours))
            assert {row["claims"] for row in ours} == {len(given) * len(HEADS)}
            assert "claims have bounds above 0" in sentence(ours + theirs)
    finally:
        (store.path / "plan" / register.TESTED / f"{'f' * 64}.json").unlink()


def test_units_are_counted_at_a_delta_that_the_networks_of_a_config_share(run):
    store, rows = run
    kept = [
        read_arrays(open_folder(store.disk, store.path / "obj" / row["key_fitted"]))["unit_evidence"] for row in rows
    ]
    now = together(store.disk, rows)
    assert [row["certified_units"] for row in now] == [in_sequence(one, 0.05 / len(rows)) for one in kept]
    assert [row["certified_units"] for row in rows] == [in_sequence(one, 0.05) for one in kept]
    assert max(row["certified_units"] for row in now) > 0
    many = together(store.disk, rows, price=10**6)
    assert sum(row["certified_units"] for row in many) < sum(row["certified_units"] for row in now)
    [gone] = together(store.disk, [{**rows[0], "key_fitted": ""}])
    assert gone["certified_units"] is None
    old = {name: value for name, value in rows[0].items() if name != "certified_units"}
    assert "certified_units" not in together(store.disk, [old])[0]


def test_looks_under_other_names_cost_the_bounds_and_write_no_row(run, digits, request):
    store, rows = run
    files = {path: path.read_bytes() for path in (store.path / "rows").rglob("*.json")}
    before = together(store.disk, rows)
    store, rows = request.getfixturevalue("studied")
    after = together(store.disk, rows)
    assert {(row["look"], row["looks"]) for row in before} == {(1, 1)}
    assert {(row["look"], row["looks"]) for row in after} == {(1, 3)}
    assert all(later < then for later, then in zip(bounds(after), bounds(before), strict=True))
    assert {path: path.read_bytes() for path in (store.path / "rows").rglob("*.json")} == files
    assert table_text(after) != table_text(before)


def test_bounds_that_keep_no_scores_are_not_shown_at_looks_that_they_did_not_pay(studied):
    store, rows = studied
    assert all(row.get(name) is None for row in together(store.disk, rows) for name in OTHERS)
    paid = together(store.disk, rows, price=1)
    kept = {name for name in OTHERS if any(row.get(name) is not None for row in paid)}
    assert kept == {*OTHERS} - {"rotation_population_bound"}


def test_no_bound_on_certify_rows_is_shown_twice_or_at_looks_of_then(studied):
    store, rows = studied
    for row in together(store.disk, rows):
        assert row["betting_bound"] == row["population_bound"]
        restated = {f"{head}population_bound" for head in HEADS} | {"betting_bound"}
        others = {name for name, value in row.items() if name.endswith("_bound") and value is not None}
        assert others <= restated


def test_a_row_whose_scores_are_gone_shows_a_bound_that_paid_enough_and_no_other(run):
    store, rows = run
    paid = [{**rows[0], "key_judged": "", "key_fitted": "", "looks": looks} for looks in (3, 4, 8)]
    found = [together(store.disk, [row], price=1)[0]["population_bound"] for row in paid]
    assert found == [None, rows[0]["population_bound"], rows[0]["population_bound"]]


def test_other_splits_are_left_as_they_are(run):
    store, rows = run
    guard = [{**row, "split": "guard"} for row in rows]
    assert together(store.disk, guard) == guard


def test_the_sentence_says_which_look_this_is_and_what_holds(studied):
    store, rows = studied
    now = together(store.disk, rows)
    held = sum(bound > 0 for bound in bounds(now))
    assert sentence(now) == (
        f"look 1 of 3 on these rows: {held} of {len(bounds(now))} claims have bounds above 0, "
        "which hold together at 95 %"
    )
    assert sentence(now[:1]) == sentence(now)
    assert sentence([]) == sentence(rows) == ""


@pytest.mark.parametrize("leaked", [36, pytest.param(360, marks=pytest.mark.slow)])
def test_leaked_rows_take_the_population_claim_away_and_leave_that_about_rows(digits, leaked, tmp_path):
    store, dataset = Store(tmp_path / "store"), leaking(digits, leaked, tmp_path / "data" / "leaking")
    now = together(store.disk, opened(store, dataset))
    for row in now:
        assert bounds([row]) == [None] * len(HEADS)
        assert row["certified_population"] is None
        assert row["certified_rows"] == (row["margin"] > 1e-9)
        assert row["withheld"].startswith(f"{leaked} of 360 certify rows lie in other splits ({leaked} in train)")
    text = shown(store, now)
    assert f"{leaked} of 360 certify rows lie in other splits" in text
    assert "no claim about the population. Look 1 of 1 on these rows. What is not positive" in text


def test_a_chain_that_no_gate_has_opened_tells_of_leaks_as_well(digits, tmp_path):
    """As on the first page: trained and judged in Python alone."""
    store, dataset = Store(tmp_path / "store"), leaking(digits, 36, tmp_path / "data" / "leaking")
    rows = chain.judge(chain.train(SPEC, dataset, store, only=("full",)), dataset, store, "certify")
    (now,) = together(store.disk, rows)
    assert now["withheld"].startswith("36 of 360 certify rows lie in other splits")
    assert (now["population_bound"], now["certified_population"]) == (None, None)


def test_a_few_leaked_rows_are_left_out_of_the_bound(digits, tmp_path):
    store, dataset = Store(tmp_path / "store"), leaking(digits, 3, tmp_path / "data" / "leaking")
    rows = opened(store, dataset)
    assert len(read_arrays(open_folder(store.disk, store.path / "obj" / rows[0]["key_judged"]))["scores"]) == 357
    now = together(store.disk, rows)
    assert "3 of 360 certify rows lie in other splits (3 in train): the bound leaves them out" in shown(store, now)
    assert None not in bounds(now)
    assert all(row.get(name) is None for row in now for name in OTHERS)  # they read rows that do not count


def shown(store: Store, rows) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    show(rows, store.path, console)
    return " ".join(console.export_text().split())


TESTED = {"n": 1000, "certify": "c", "in_train": 0, "in_guard": 0, "leaked": 0, "near": 0, "distinct": 1000}


@pytest.mark.parametrize(
    ("found", "classes", "said"),
    [
        ({}, 10, []),
        ({"leaked": 4, "in_train": 3, "in_guard": 1}, 10, ["(3 in train, 1 in guard): the bound leaves them out"]),
        ({"leaked": 11, "in_train": 11}, 10, ["11 of 1,000 certify rows lie in other splits (11 in train): no claim"]),
        ({"near": 7}, 10, ["7 of 1,000 certify rows are nearly"]),
        (
            {"near": None, "distinct": 900},
            10,
            ["100 certify rows repeat another one: the bound counts each once, and is about different images"],
        ),
        ({}, 1001, ["1,000 rows for 1,001 classes"]),
    ],
)
def test_each_precondition_has_its_words(found, classes, said):
    told = warnings(TESTED | found, classes)
    assert len(told) == len(said)
    assert all(words in line for words, line in zip(said, told, strict=True))


def test_rows_that_were_never_tested_have_no_words():
    assert warnings(None, 10) == []


def test_a_lost_object_hides_its_bounds_until_it_is_made_again(run, digits):
    store, rows = run
    wanted = together(store.disk, rows)
    discard(store.disk, store.path / "obj" / rows[0]["key_judged"])
    assert together(store.disk, rows)[0]["population_bound"] is None
    assert together(store.disk, opened(store, digits)) == wanted
