"""What is written runs: code blocks, commands, links, the demo's table, the picture of rooms, the changed versions."""

import ast
import importlib
import itertools
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import certvae
from certvae.engine.main import main
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data, Gaussian, Mlp, Model, SimplexHead, Training
from certvae.spec.simplex import Witness
from certvae.spec.teachers import Labels
from certvae.store.store import Store
from tests import demo_table
from tests.rooms import PICTURE, edges, picture
from tests.small_cells import small_cell, small_digits
from tests.test_architecture import PACKAGES, ROOT, module_of, sources, tree
from tests.typed import help_of

FOLDERS = ("", ".github/", ".github/examples/", *(f"{package}/" for package in PACKAGES), "sweeps/clusters/")
PAGES = [path for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}*.md"))]
README_LINES = 150
CERTVAE = "certvae"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ANY_STUDY = "sweeps/tiny_fixed_q.py"  # has the options of a study of one's own
CODE = re.compile(r"^(from [\w.]+ import|import \w|\w+(, \w+)* = \w[\w.]*\(|\w[\w.]*\(.*\)$)", re.MULTILINE)
"""A line that only Python can mean."""
SMALL = {"presets.rescue(about)": "small_cell()"}
"""What a block is run with instead, so that it ends in a second."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def fenced(page: Path, language: str) -> list[str]:
    return [body for found, body in FENCED.findall(page.read_text()) if found == language]


def indented(text: str) -> Iterator[str]:
    """Blocks of lines that stand four further in than the text around them."""
    for block in re.findall(r"(?:^(?: {4}.*|)\n?)+", text, re.MULTILINE):
        if block.strip():
            yield textwrap.dedent(block).strip("\n")


def documented(path: Path) -> list[str]:
    """Blocks of Python in the docstring of a module."""
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    return [block for block in indented(said) if CODE.search(block)]


def written(page: Path) -> list[str]:
    """Lines of shell in a page: in fences without a language, and between backticks."""
    text = page.read_text()
    lines = [
        line for body in (*fenced(page, ""), *indented(FENCED.sub("", text))) for line in joined(body).splitlines()
    ]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text))]
    said = (line.split(" #")[0].split("   ")[0].strip() for line in (*lines, *spans))
    return [re.sub(r"^PYTHONPATH=\S+ ", "", line) for line in said]


def joined(text: str) -> str:
    """Lines that end in a backslash, and the next, as one."""
    return re.sub(r"\\\n\s*", " ", text)


def commands(page: Path) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """(program and subcommands, options) for each command of ours in a page; what follows a study are its options."""
    for line in written(page):
        words = shlex.split(line) if line.count('"') % 2 == line.count("'") % 2 == 0 else []
        script = next((word for word in words if re.fullmatch(r"(sweeps/)?\w+\.py", word)), None)
        if words[:1] in (["python"], [CERTVAE]) and script:
            yield (script if "/" in script else ANY_STUDY,), options(words)
        if words[:1] == [CERTVAE]:
            names = list(itertools.takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, words[1:3]))
            yield (
                (CERTVAE, *names[: 2 if names[:1] in (["store"], ["cluster"]) else 1]),
                set() if script else options(words),
            )


def subcommands(said: str) -> list[str]:
    """Those that a usage line lists in braces."""
    found = re.search(r"\{([\w,\s-]+)\}", said)
    return re.split(r"[,\s]+", found[1]) if found else []


def options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def targets(page: Path) -> set[str]:
    return {target for line in written(page) for target in re.findall(r"^make ([\w-]+)", line)}


def anchors(page: Path) -> set[str]:
    """Headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def photographs(folder: Path) -> None:
    """A folder per kind, as a user has them."""
    for kind in range(8):
        (folder / f"kind{kind}").mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng([kind, number]).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"kind{kind}" / f"{number}.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the snippets run: rows and logits of a model, networks of one's own, and a store with short chains."""
    here = tmp_path_factory.mktemp("snippets")
    shutil.copy(ROOT / ".github" / "examples" / "mynets.py", here)
    photographs(here / "photos")
    generator = np.random.default_rng(0)
    teacher = 0.98 * np.eye(3)[generator.integers(0, 3, 500)] + 0.02 / 3
    np.save(here / "teacher.npy", teacher)
    np.save(here / "logits.npy", np.log(teacher) + generator.normal(size=teacher.shape))
    for end, n in (("_train", 400), ("", 300)):
        features = np.eye(10)[generator.integers(0, 10, n)] + 0.1 * generator.normal(size=(n, 10))
        np.save(here / f"f{end}.npy", features)
        np.save(here / f"z{end}.npy", features[:, :4])
        np.save(here / f"v{end}.npy", np.full((n, 4), -4.0))
    dataset, store = small_digits(here / "cache"), Store(here / "store")
    for seed in (0, 1):
        rescue = replace(small_cell(seed=seed), data=Data(name="digits", limit=240, certify_limit=60))
        for spec in (*(replace(rescue, study=name) for name in ("tiny_fixed_q", "tiny_fixed_q-digits")), witness(seed)):
            trained = chain.train(spec, dataset, store)
            chain.judge(trained, dataset, store, "certify")
            if spec.study == "mnist_simplex":
                chain.judge(trained, dataset, store, "guard")
    shutil.copytree(here / "store", here / "certvae-store")
    return here


def witness(seed: int) -> CellSpec:
    """A cell of the simplex witness that trains two networks for two epochs."""
    return CellSpec(
        study="mnist_simplex",
        seed=seed,
        data=Data(name="digits"),
        model=Model(
            encoder=Mlp(hidden=(32,), latent=12),
            head=SimplexHead(),
            likelihood=Gaussian(variance=0.5),
            decoder_sees_teacher=False,
        ),
        protocol=Witness(teacher=Labels(), alpha_kl=0.05, modes=("vae", "rst")),
        training=Training(epochs=2, batch_size=64),
    )


def run(block: str, names: dict | None = None) -> dict:
    """Runs a block as a file of its own and returns what it defines."""
    for usual, small in SMALL.items():
        block = block.replace(usual, small)
    space = {**(names or {}), "__name__": "a_block", "small_cell": small_cell}
    exec(compile(block, "block", "exec"), space)  # noqa: S102 - the point of this test
    return space


class TestCode:
    @pytest.mark.parametrize(
        ("page", "block"),
        [(page, block) for page in PAGES for block in fenced(page, "python")],
        ids=lambda given: str(given.relative_to(ROOT)) if isinstance(given, Path) else given.splitlines()[-1],
    )
    def test_a_block_of_a_page_runs(self, page, block, folder, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        made = run(block)
        if study := made.get("STUDY"):
            searched = ["--search", "2"] if study.space else []
            assert main(study, ["--plan", *searched, "--store", "planned"]) == 0
        assert capsys.readouterr().out

    @pytest.mark.parametrize(
        "path",
        [path for path in sources(*PACKAGES) if documented(path)],
        ids=module_of,
    )
    def test_a_block_of_a_docstring_runs_in_its_module(self, path, folder, monkeypatch):
        monkeypatch.chdir(folder)
        name = re.sub("^analysis", "certvae.analysis", module_of(path))  # as a wheel has it
        for block in documented(path):
            run(block, dict(vars(importlib.import_module(name))))

    def test_blocks_are_found(self):
        """Or the tests above say nothing."""
        assert [block.splitlines()[0] for block in documented(ROOT / "certvae" / "__init__.py")] == [
            "import numpy as np"
        ]
        assert len(fenced(ROOT / "README.md", "python")) == 3


class TestPages:
    @pages
    def test_links_and_pictures_lead_somewhere(self, page):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", FENCED.sub("", page.read_text()))
        assert [link for link in links if not (page.parent / link).exists()] == []

    @pages
    def test_links_into_a_page_meet_a_heading(self, page):
        links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", FENCED.sub("", page.read_text()))
        lost = [place for other, place in links if place not in anchors(page.parent / other if other else page)]
        assert lost == []

    def test_the_first_page_is_short(self):
        assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES

    def test_every_folder_of_the_first_page_has_one(self):
        assert {
            "README.md",
            "sweeps/README.md",
            "sweeps/clusters/README.md",
            "analysis/README.md",
            "certvae/README.md",
        } <= {str(page.relative_to(ROOT)) for page in PAGES}

    @pages
    def test_targets_are_those_of_the_makefile(self, page):
        known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert targets(page) <= known

    @pytest.mark.parametrize("command", sorted({asked for page in PAGES for asked, _ in commands(page)}), ids=" ".join)
    def test_commands_and_their_options_are_known(self, command):
        wanted = {option for page in PAGES for asked, known in commands(page) if asked == command for option in known}
        program, *names = command
        for place, name in enumerate(names):
            assert name in subcommands(help_of(*names[:place])), f"no command {name}"
        said = help_of(*names) if program == CERTVAE else help_of(program)
        assert {option for option in wanted if not re.search(rf"{option}\b", said)} == set()


class TestFacts:
    def test_the_picture_of_the_rooms_is_that_of_the_code(self):
        assert PICTURE.read_text() == picture(), "run `make rooms`"

    def test_every_room_is_explained(self):
        table = (ROOT / "certvae" / "README.md").read_text().partition("| room |")[2].partition("\n\n")[0]
        names = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
        assert set(re.findall(r"`(\w+)`", names)) == edges().keys()

    def test_every_version_of_a_stage_says_what_changed(self):
        rows = re.findall(r"^\| (.+?) \| (\d+) \| \S", (ROOT / ".github" / "CHANGELOG.md").read_text(), re.MULTILINE)
        said = {(name, int(version)) for names, version in rows for name in re.findall(r"`(\w+)`", names)}
        assert {(one.name, n) for one in chain.STAGES for n in range(2, one.version + 1)} <= said

    def test_every_option_of_a_study_says_what_it_is(self):
        """What `--help` prints beside it is the text below a field; a field that is a spec itself has its class."""
        paths = (*sources("certvae/spec"), ROOT / "certvae" / "engine" / "command.py")
        found = [node for path in paths for node in tree(path).body if isinstance(node, ast.ClassDef)]
        groups = {node.name for node in found} | {"Thresholds"}
        silent = [
            f"{spec.name}.{ast.unparse(field.target)}"
            for spec in found
            if "spec" in map(ast.unparse, spec.decorator_list) and spec.name != "CellSpec"
            for field, below in itertools.pairwise([*spec.body, ast.Pass()])
            if isinstance(field, ast.AnnAssign) and not groups & set(re.findall(r"\w+", ast.unparse(field.annotation)))
            if "ClassVar" not in ast.unparse(field.annotation)
            if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant))
        ]
        assert silent == []

    def test_the_citation_is_of_this_version(self):
        assert f"\nversion: {certvae.__version__}\n" in (ROOT / "CITATION.cff").read_text()

    def test_the_table_of_the_demo_is_read(self):
        rows = demo_table.signs(demo_table.shown(demo_table.README.read_text()))
        modes = {"full": "+", "no_align": "-", "rescue": "+", "head_only": "+", "untrained": "-"}
        table = demo_table.shown(demo_table.README.read_text())
        assert demo_table.THIRD.sub("", table.replace("\nI_T, ", "\n\n2    full\n2    rescue\nI_T, ", 1)) == table
        assert rows == [(str(seed), mode, "strict", sign) for seed in range(2) for mode, sign in modes.items()]

    @pytest.mark.slow
    def test_the_demo_has_the_signs_of_its_table(self, tmp_path):
        table = demo_table.made(tmp_path / "store")
        read = demo_table.signs(demo_table.README.read_text())
        assert demo_table.signs(table)[: len(read)] == read
