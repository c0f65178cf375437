"""A page in a headless browser, as a reader has it: the script runs under the page's policy, and sliders move it."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import search
from analysis.load import load
from analysis.opening import opening
from analysis.report import Request, write
from analysis.tables.answers import answer_table, apart_table, ranking_table
from analysis.views import DECLARED, everything, partition
from certvae.quality import Thresholds
from certvae.spec.goal import Goal
from tests.analysis_rows import STRESS, STUDY, chains, lost, searched
from tests.analysis_rows import search as search_rows

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no headless browser"),
]
MOVE = """
const told = [];
const tables = () => [...document.querySelectorAll("table[data-live]")];
window.requestAnimationFrame = (draw) => draw();  // a browser without a screen draws when it likes
{
  for (const view of %s) {
    for (const [name, value] of Object.entries(view)) {
      const slider = document.getElementById(`slider-${name}`);
      slider.value = value === null ? slider.min : value;
      slider.dispatchEvent(new Event("input"));
    }
    const cells = (table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent));
    told.push({
      headline: document.getElementById("verdict").textContent + " " + document.getElementById("sentence").textContent,
      stress: document.querySelectorAll(".mark.stress[data-row]").length,
      ...Object.fromEntries(tables().map((table) => [table.dataset.live, cells(table)])),
    });
  }
  document.querySelector("[data-row]").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  told.push(document.getElementById("card").textContent);
  document.body.replaceChildren();
  const pre = document.body.appendChild(document.createElement("pre"));
  pre.id = "told";
  pre.textContent = JSON.stringify(told);
}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    rows = [*chains(), *chains([3], **STRESS), lost(4), row_of(4), *search_rows(8)]
    return write(Request(store=searched(folder / "store", rows, Goal()), study=STUDY, out=folder / "out"))


def row_of(seed: int) -> dict:
    return chains([seed], ["no_align"])[0]


def dump(page: Path, folder: Path, *options: str) -> str:
    """The document as it is after its scripts have run."""
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--virtual-time-budget=5000", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_script_runs_under_the_policy_of_its_page(written, tmp_path):
    assert re.search(r'<form id="thresholds" autocomplete="off" hidden', written.read_text())
    assert re.search(r'<form id="thresholds" autocomplete="off">', dump(written, tmp_path))


def test_a_page_is_no_wider_than_a_phone(written, tmp_path):
    """In a frame, since a headless window is never narrower than 500 pixels."""
    frame = tmp_path / "frame.html"
    measure = "document.title = document.documentElement.scrollWidth"
    inner = written.read_text().replace("script-src '", "script-src 'unsafe-inline' 'ignored", 1)
    inner = re.sub(r"<meta http-equiv[^>]*>", "", inner).replace(
        "</body>", f"<script>{measure};parent.postMessage(document.title, '*')</script></body>"
    )
    (tmp_path / "inner.html").write_text(inner)
    frame.write_text(
        '<iframe src="inner.html" width="390" height="800"></iframe><pre></pre>'
        "<script>onmessage = (event) => { document.querySelector('pre').textContent = event.data; };</script>"
    )
    found = re.search(r"<pre>(\d+)</pre>", dump(frame, tmp_path / "profile", "--allow-file-access-from-files"))
    assert found is not None
    assert int(found[1]) <= 390


def test_moved_sliders_show_what_the_views_say(written, tmp_path):
    moved = [
        {"tau": 0.1},
        {"tau": 1.71},
        {"tau": 0.2, "min_mass_share": 0.0},
        {"min_mass_share": 0.9, "psnr_floor": 18.9},
        {"min_mass_share": 0.1, "psnr_floor": None, "psnr_drop": 0.3, "top1_margin": 0.95},
        {"top1_margin": 0.5, "psnr_drop": 0.7, "tau": 0.0},
    ]
    copy = tmp_path / "moved.html"
    text = re.sub(r"<meta http-equiv[^>]*>", "", written.read_text())
    copy.write_text(text.replace("</body>", f"<script>{MOVE % json.dumps(moved)}</script></body>"))
    found = re.search(r'<pre id="told">(.*?)</pre>', dump(copy, tmp_path / "profile"), re.DOTALL)
    assert found is not None
    told = json.loads(html.unescape(found[1]))
    store = written.parent.parent / "store"
    rows, tried = load(store, STUDY, split="certify"), load(store, STUDY, split="guard")
    stands: dict = {"tau": 0.1, "psnr_floor": None, "psnr_drop": 1.5}
    assert told.pop().startswith("full, seed 0certified at tau = 0.00margin +1.8000 nats")
    assert len(told) == len(moved)
    for change, seen in zip(moved, told, strict=True):
        stands |= change
        limits = {name: value for name, value in stands.items() if name not in ("tau", "psnr_floor", "psnr_drop")}
        goal = Goal(psnr_drop=stands["psnr_drop"], psnr_floor=stands["psnr_floor"])
        view = replace(DECLARED, tau=stands["tau"], goal=goal, thresholds=replace(Thresholds(), **limits))
        parts, guard = (partition(frame, view.thresholds) for frame in (rows, tried))
        first, ranking = opening(parts, view), ranking_table(search.configs(guard, goal), everything(guard), view)
        assert seen["headline"] == f"{first.verdict} {first.sentence}"
        assert seen["answers"] == answer_table(parts, view).texts()
        assert seen["apart"] == apart_table(parts, view).texts()
        assert seen["ranking"] == ranking.texts(page=True)
        assert seen["stress"] == parts.stress.listed["margin"].notna().sum()
