import base64
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from analysis.report import Request, build, gather, main, write
from analysis.sections import environment
from analysis.tables.answers import answer_lines
from certvae.errors import ExitCode
from certvae.looks.register import tell
from certvae.quality import Thresholds
from certvae.spec.goal import Goal
from certvae.store import environments
from certvae.store.store import Store
from tests.analysis_rows import HOSTILE, MARGIN, STRESS, STUDY, chains, filled, lost, row, search, searched, whole_study

VOID = {"meta", "img", "input"}
DRAWN = {"circle", "line", "path", "rect", "polyline", "polygon"}


class Page(HTMLParser):
    """A page as a browser sees it: elements in order, and an error for a tag that is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWN
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A whole study with a stress case and a failed run, and its search on guard."""
    path = whole_study(tmp_path_factory.mktemp("report") / "store", range(3))
    return filled(path, [*chains([3], **STRESS), lost(4), row(4, "no_align"), *search(12)])


def built(store: Path) -> tuple[str, list]:
    request = Request(store=store, study=STUDY)
    return build(request, *gather(request))


@pytest.fixture(scope="module")
def written(store, tmp_path_factory) -> Path:
    return write(Request(store=store, study=STUDY, out=tmp_path_factory.mktemp("written")))


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written.read_text())


def test_every_table_and_figure_is_there_in_every_format(written, page):
    tables, figures = ({path.stem for path in (written.parent / kind).iterdir()} for kind in ("tables", "figures"))
    assert {path.suffix for path in (written.parent / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert {path.suffix for path in (written.parent / "figures").iterdir()} == {".png", ".pdf"}
    headings = {
        given["id"] for tag in ("h3", "p") for given in page.of(tag) if given.get("id", "")[:5] in ("table", "plot-")
    }
    assert headings == {f"table-{name}" for name in tables} | {f"plot-{name}" for name in figures}
    assert {
        *("summary", "seeds", "stress_cases", "failures", "counts", "claims", "signs", "paired_differences", "tau"),
        *(
            "answers",
            "apart",
            "ranking",
            "reconstruction",
            "teachers",
            "candidates",
            "configs",
            "importance",
            "heads",
            "code",
        ),
    } <= tables
    assert {
        *("margins", "margin_curves", "rescue_transitions", "margin_against_tau", "margin_against_psnr"),
        *("teacher_quality", "reconstructions_seed_0", "config_tradeoff", "importance", "slices"),
    } <= figures


def test_a_page_fetches_nothing_and_runs_its_own_script_alone(page):
    assert {tag for tag, _ in page.elements}.isdisjoint({"iframe", "object", "embed", "link", "base"})
    assert [given.get("type") for given in page.of("script")] == ["application/json", None]
    attributes = {name for _, given in page.elements for name in given}
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    targets = [given[name] for _, given in page.elements for name in ("src", "href", "action") if name in given]
    assert all(target.startswith(("data:", "#")) for target in targets)


def test_the_policy_allows_one_style_one_script_and_pictures_inside_the_file(page, written):
    (policy,) = [given["content"] for given in page.of("meta") if given.get("http-equiv")]
    whole = written.read_text()
    inside = (re.search(rf"<{tag}>(.*?)</{tag}>", whole, re.DOTALL) for tag in ("style", "script"))
    style, script = (base64.b64encode(hashlib.sha256(one[1].encode()).digest()).decode() for one in inside if one)
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_first_screen_answers_the_question(page):
    words = " ".join(page.words)
    assert "Does the latent path carry information about the input?" in words
    assert "In part. The head is certified at tau = 0.10 in strict-feasible seeds: 3 of 4 for full and 3 of 3 for" in (
        " ".join(words.split())
    )
    marks = [given for given in page.of("g") if "data-row" in given]
    assert len(marks) == 3 * 3 + 3 + 1  # a network without a margin has no mark
    assert sum("stress" in given["class"] for given in marks) == 3


def test_provenance_is_said_once(written):
    assert written.read_text().count("certvae 0.1.0, torch 2.10.0") == 1


def test_other_tables_are_folded(page):
    assert len(page.of("details")) > len(page.of("article"))


def test_a_page_can_be_read_by_ear_and_by_keyboard(page):
    assert page.of("html")[0]["lang"] == "en"
    assert all(given["alt"] for given in page.of("img"))
    assert all(given["aria-label"] for given in page.of("svg") if given.get("role") == "img")
    assert all("scope" in given for given in page.of("th"))
    boxes = [given for given in page.of("div") if given.get("class") == "scroll"]
    assert all(given["tabindex"] == "0" and given["aria-labelledby"] for given in boxes)
    ids = [given["id"] for _, given in page.elements if "id" in given]
    assert len(ids) == len(set(ids))
    links = {given["href"][1:] for given in page.of("a") if given["href"].startswith("#")}
    assert links <= set(ids)


def test_downloads_are_the_files_beside_the_page(written, page):
    link = next(given for given in page.of("a") if given.get("download") == "summary.csv")
    data = base64.b64decode(link["href"].partition("base64,")[2])
    assert data == (written.parent / "tables" / "summary.csv").read_bytes()
    assert pd.read_csv(io.BytesIO(data))["margin_tau_0.10_mean"].tolist()[0] == pytest.approx(1.71)


def test_a_page_says_which_versions_it_is_about(page):
    words = " ".join(page.words)
    assert "certvae 0.1.0, torch 2.10.0" in words
    assert "split certify" in words
    assert "collapsed" not in words


@pytest.mark.slow
def test_equal_rows_give_equal_bytes_in_another_process_and_place(tmp_path):
    command = [sys.executable, report.__file__, "--study", STUDY]
    pages = []
    for name, hash_seed in (("a", "1"), ("elsewhere", "2")):
        path = filled(tmp_path / name, [*chains([0, 1]), *chains([2], **STRESS)])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run([*command, "--store", path], check=True, env=environment, capture_output=True)
        folder = path / "views" / "report" / STUDY
        pages.append({file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*")})
    assert pages[0] == pages[1]
    assert str(tmp_path).encode() not in pages[0][Path("report.html")]


def test_a_report_leaves_the_store_as_it_was(tmp_path):
    store = filled(tmp_path / "store", chains())
    write(Request(store=store, study=STUDY))
    assert Store(store).verify().exit_code == 0


@pytest.mark.parametrize(
    "rows",
    [
        [row(0)],
        chains(range(2), **STRESS),
        [lost(seed, mode) for seed in range(2) for mode in MARGIN],
        [lost(seed, mode, "infeasible_teacher", key_teacher=None) for seed in range(2) for mode in MARGIN],
        [row(seed, mode, margin=-0.5) for seed in range(2) for mode in ("mine", "yours")],
        [one for kl in (1.0, 8.0) for one in chains(range(2), parameters={"objective.alpha_kl": kl})],
        search(3),
        chains([0], data="cifar100", classes=100, teacher_info=4.0, teacher_min_mass=0.005),
    ],
    ids=["one row", "stress", "diverged", "no teacher", "unknown modes", "two configs", "search", "printed"],
)
def test_whatever_rows_there_are_there_is_a_page(tmp_path, rows):
    html, blocks = built(filled(tmp_path, rows))
    assert Page(html).of("h1")
    assert blocks


@pytest.fixture(scope="module")
def largest_kl(tmp_path_factory) -> tuple[Path, str]:
    """A search for the largest alpha_kl with fresh seeds of its winner, and its page."""

    def chain(weight, bound, seeds=range(3), split="guard"):
        given = {"alpha_kl": weight, "sampled_population_bound": bound, "split": split}
        return chains(seeds, parameters={"objective.alpha_kl": weight}, **given)

    rows = [*chain(1.0, 0.5), *chain(4.0, 0.3), *chain(9.0, -0.1), *chain(4.0, 0.2, [7, 8])]
    goal = Goal(kind="max_kl", psnr_drop=None)
    store = searched(tmp_path_factory.mktemp("largest_kl"), rows, goal)
    return store, built(store)[0]


def test_a_search_for_a_weight_is_told_in_its_own_words(largest_kl):
    words = " ".join(" ".join(Page(largest_kl[1]).words).split())
    assert "Winner: alpha_kl 4. alpha_kl 4 over n = 3 strict-feasible search seeds" in words
    assert "slack +0.30 nats. Held against 2 fresh seeds (guard split): alive and certified in all of them" in words
    assert "mean margin" not in words
    assert "PSNR constraint" not in words


def test_its_configs_stay_in_the_order_in_which_the_page_was_made(largest_kl):
    """The script would order them by margin, under bounds on PSNR that the search does not have."""
    page = Page(largest_kl[1])
    assert {given["data-live"] for given in page.of("table") if "data-live" in given} == {"answers", "apart"}
    assert not [given for given in page.of("input") if "psnr" in given.get("name", "")]
    assert "this order stays as the page was made" in largest_kl[1]


def test_it_knows_no_bound_on_reconstruction_and_the_remedy_works(largest_kl, tmp_path, capsys):
    asked = ["--store", str(largest_kl[0]), "--study", STUDY, "--out", str(tmp_path)]
    assert main([*asked, "--psnr-drop", "1"]) == ExitCode.WRONG_INPUT
    assert "leave them away" in capsys.readouterr().err
    assert main([*asked, "--psnr-drop", "none"]) == ExitCode.DONE


def test_words_of_a_store_stay_words(tmp_path):
    rows = [*chains([0], data=HOSTILE, substitute=HOSTILE), {**lost(1), "data": HOSTILE, "reason": HOSTILE}]
    html, _ = built(filled(tmp_path, rows))
    found = Page(html)
    assert len(found.of("script")) == 2
    assert "<script>alert(1)</script>" in "".join(found.words)
    assert "\x1b" not in html


def test_a_substitute_is_a_warning(tmp_path):
    html, _ = built(filled(tmp_path, chains(substitute="first 100 images")))
    assert "Not the rows of a published data set: first 100 images." in html


def test_why_there_is_no_claim_about_the_population_stands_at_the_top(tmp_path):
    """It stood in a folded table and in captions, and above them bounds were dashes."""
    store, rows = filled(tmp_path, chains()), chains()
    found = {"n": 80, "leaked": 1, "in_train": 1, "in_guard": 0, "distinct": 80}
    tell(Store.existing(store).disk, rows[0]["data_digest"], found)
    _, warnings = gather(Request(store=store, study=STUDY))
    why = "1 of 80 certify rows lie in other splits (1 in train): no claim about the population"
    assert warnings == [f"{why}. Leave such images in one split alone and run again: then there can be."]


def test_stale_rows_are_a_warning_with_what_to_do(tmp_path):
    fresh, _ = built(filled(tmp_path / "fresh", chains()))
    assert "stale" not in fresh
    html, _ = built(filled(tmp_path / "edited", [*chains([0, 1]), *chains([2], program="another text")]))
    assert f"{len(MARGIN)} of {3 * len(MARGIN)} rows are stale" in html
    assert "--recompute" in html


def test_rows_that_a_search_has_seen_are_called_descriptive(tmp_path):
    html, _ = built(filled(tmp_path, search(3)))
    assert "No config of this study was certified yet" in html
    assert "Of 3 configs the one that leads the search is shown" in html


def test_another_view_repartitions_the_same_rows(store):
    def seen(**view) -> tuple[int, str]:
        material, _ = gather(Request(store=store, study=STUDY, **view))
        return len(material.parts.stress.listed), answer_lines(material.parts, material.view)[0]["head"]

    assert seen() == (3, "3 of 4")
    assert seen(thresholds=Thresholds(min_mass_share=1e-4)) == (0, "4 of 5")
    assert seen(tau=1.805) == (3, "2 of 4")


def test_counts_of_teachers_of_different_sources_stand_apart(tmp_path):
    rows = [*chains(range(3)), *chains(range(2), teacher_source="given", config="b" * 64)]
    material, _ = gather(Request(store=filled(tmp_path, rows), study=STUDY))
    lines = answer_lines(material.parts, material.view)
    assert sorted(line["head"] for line in lines if line["mode"] == "full") == ["2 of 2", "3 of 3"]


def test_a_command_line_sets_the_view(tmp_path, capsys):
    store, out = filled(tmp_path / "store", chains([0])), tmp_path / "out"
    options = ["--tau", "0.2", "--psnr-drop", "none", "--psnr-floor", "12", "--min-mass-share", "0.2"]
    assert main(["--store", str(store), "--study", STUDY, "--out", str(out), *options]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    html = (out / "report.html").read_text()
    assert "tau 0.2 nats; psnr_01 ≥ 12 dB; thresholds: " in html
    assert "min_mass_share 0.2" in html


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--store", "nowhere", "--study", "s"], 5, "E-STORE: wanted a store, found no STORE.json"),
        (["--study", "other"], 2, "E-COMP: wanted rows of study 'other', found none"),
        (["--study", STUDY, "--tau", "9"], 2, "tau must be inside"),
        (["--study", STUDY, "--only", "split"], 2, "--only must be COLUMN=TEXT, got 'split'"),
    ],
)
def test_a_refusal_is_one_line_and_an_exit_code(store, capsys, arguments, code, said):
    given = arguments if "--store" in arguments else ["--store", str(store), *arguments]
    assert main(given) == code
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_fault(store, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--store", str(store), "--study", STUDY, "--out", str(tmp_path / "file")]) == 4
    assert "E-DISK" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["../../up", "a/b", "$(x)", ".."])
def test_a_study_cannot_name_a_folder_elsewhere(store, study, capsys):
    before = sorted(store.parent.rglob("*"))
    assert main(["--store", str(store), "--study", study]) == 5
    assert "a name must be" in capsys.readouterr().err
    assert sorted(store.parent.rglob("*")) == before


def test_seeds_that_confirmed_the_chosen_config_do_not_count_in_the_search(tmp_path):
    chosen, other = ({"objective.lambda_ts": weight} for weight in (5.0, 1.0))
    searched = [one for tried in (chosen, other) for one in chains(range(3), split="guard", parameters=dict(tried))]
    splits = ("guard", "certify")
    fresh = [one for split in splits for one in chains(range(200, 205), split=split, parameters=dict(chosen))]
    material, _ = gather(Request(store=filled(tmp_path, [*searched, *fresh]), study=STUDY))
    assert material.tried is not None
    assert sorted(set(material.tried.strict.rows["seed"])) == [0, 1, 2]
    assert sorted(set(material.rows["seed"])) == [200, 201, 202, 203, 204]


def test_where_every_seed_was_certified_all_of_them_are_compared(tmp_path):
    weights = ({"objective.alpha_kl": weight} for weight in (1.0, 8.0))
    rows = [one for w in weights for split in ("guard", "certify") for one in chains(split=split, parameters=dict(w))]
    material, _ = gather(Request(store=filled(tmp_path, rows), study=STUDY))
    assert material.tried is not None
    assert len(material.tried.strict.rows) == 2 * 3 * 3


def test_rows_of_two_versions_need_a_word(tmp_path, capsys):
    store = filled(tmp_path, [*chains([0]), *chains([1], version_torch="2.15.0")])
    assert main(["--store", str(store), "--study", STUDY]) == 2
    assert "version_torch: 2.10.0 (3 rows), 2.15.0 (3 rows)" in capsys.readouterr().err
    material, _ = gather(Request(store=store, study=STUDY, only=("version_torch=2.15.0",)))
    assert set(material.rows["seed"]) == {1}
    material, warnings = gather(Request(store=store, study=STUDY, mix=("versions",)))
    assert set(material.rows["seed"]) == {0, 1}
    assert warnings == ["Rows of several versions may be mixed, as was asked for."]


def test_the_machine_is_a_table(tmp_path):
    path = filled(tmp_path / "store", chains(range(2)))
    request, store = Request(store=path, study=STUDY), Store(path)
    assert environment(gather(request)[0]).blocks == ()
    for _ in range(2):
        environments.remember(store.disk, store.rows(STUDY)[0]["environment"])
    (found,) = environment(gather(request)[0]).blocks
    parts = dict(found.texts())
    assert parts["Python"].endswith(platform.python_version())
    assert parts["package pandas"] == pd.__version__
    assert {"CPU", "memory", "system", "package pip"} <= parts.keys()
    assert any(part.startswith("GPU") for part in parts)
