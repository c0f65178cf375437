"""What no reviewer should have to check: imports point down, functions stay short, and nothing unsafe is in.

`analysis` imports the floors up to `looks`, and pandas, scipy, matplotlib; `sweeps` imports `certvae` alone,
and nothing imports `sweeps`.
"""

import ast
import copy
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from certvae.errors import Fault

ROOT = Path(__file__).parents[1]
PACKAGES = ("certvae", "sweeps", "analysis")
FLOORS = (
    {"errors", "certificate", "drift", "installed", "machine", "simplex", "simultaneous"},
    {"shadowing"},
    {
        "answers",
        "canonical",
        "equilibrium",
        "fingerprint",
        "foreign",
        "interrupted",
        "pictures",
        "preconditions",
        "properties",
        "quality",
        "terminal",
    },
    {"spec", "store", "verifier"},
    {"data", "looks", "models"},
    {"training", "testing", "tracking", "upkeep"},
    {"cluster", "teachers", "evaluation"},
    {"protocols", "latents", "monitor"},
    {"bundle", "loaded"},
    {"engine", "analysis"},
    {"commands"},
    {"__main__"},
)
"""Rooms of `certvae`, a package or a file each, from the ground up. A room imports from the floors below its own."""
LIGHT = ("certvae", "certvae.spec", "certvae.store", "analysis")
"""Importing one of these loads nothing of HEAVY."""
HEAVY = {"torch", "sklearn", "ray", "optuna", "mlflow"}
ARRAYS = {"numpy", "jaxtyping"}
MAY_IMPORT = {
    "machine": {"psutil"},
    "fingerprint": {"torch"},
    "spec": {"pydantic", "annotated_types", "scipy"},
    "store": {"psutil", "pyarrow", "safetensors"},
    "verifier": {"torch", "safetensors", "flint"},
    "data": {"PIL", "sklearn", "pooch", "requests", "rich"},
    "models": {"torch", "safetensors"},
    "tracking": {"mlflow", "sqlalchemy", "PIL"},
    "training": {"torch", "threadpoolctl"},
    "cluster": {"ray", "torch", "psutil", "tyro"},
    "teachers": {"torch", "torchvision", "sklearn", "scipy", "array_api_compat", "threadpoolctl"},
    "evaluation": {"torch", "scipy"},
    "protocols": {"torch"},
    "bundle": {"torch"},
    "loaded": {"torch"},
    "monitor": {"torch"},
    "engine": {"ray", "optuna", "torch", "tyro", "rich", "annotated_types"},
    "commands": {"tyro"},
    "__main__": {"tyro"},
}
"""Whom a room may import besides numpy and jaxtyping."""
ANALYSIS = ARRAYS | {"pandas", "scipy", "matplotlib", "mpl_toolkits", "jinja2", "tyro"}
LONGEST_FUNCTION, LONGEST_FILE, LONGEST_STUDY = 60, 500, 62
RESTRICTED_UNPICKLER = ROOT / "certvae" / "data" / "pickled.py"
TRUSTED_BASE = 670  # lines of the one file that a sceptic audits
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("anaconda", "org"),
        ("download", "pytorch", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
]
VAGUE = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc", "core"}
FAULTS = {kind.__name__ for kind in Fault.__subclasses__()}
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> frozenset[str]:
    return frozenset(module_of(path) for path in sources(*PACKAGES))


def room_of(module: str) -> str:
    """The part of `certvae` that a module lies in: a package, or a file at the top."""
    return module.split(".")[1] if "." in module else ""


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path, *, for_types: bool = True) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever in it, with or without those for type checkers alone."""
    for node in ast.walk(tree(path) if for_types else _Running().visit(copy.deepcopy(tree(path)))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = path.relative_to(ROOT).parts[:-level] if level else ()
                module = ".".join([*above, *([module] if module else [])])
                named = (f"{module}.{alias.name}" for alias in names)
                known = modules() if module.split(".")[0] in PACKAGES else {}
                yield from {name if name in known else module for name in named}


class _Running(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


def ours(path: Path, *, for_types: bool = True) -> set[str]:
    return {name for name in imported(path, for_types=for_types) if name.split(".")[0] in PACKAGES}


def third_party(path: Path) -> set[str]:
    tops = {name.split(".")[0] for name in imported(path)}
    return tops - sys.stdlib_module_names - {*PACKAGES, "tests"}


@functools.cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def lines_with(pattern: str) -> list[str]:
    """Lines of tracked text files that match, as `file:line`."""
    wanted, found = re.compile(pattern), []
    for path in tracked():
        text = path.read_text(errors="replace").splitlines()
        found += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(text, 1) if wanted.search(line)]
    return found


every_source = pytest.mark.parametrize("path", sources(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))


class TestFloors:
    def test_every_room_has_a_floor(self):
        found = {room_of(module_of(path)) for path in sources("certvae")} - {""}
        assert found == FLOOR.keys()

    @pytest.mark.parametrize("path", sources("certvae"), ids=module_of)
    def test_imports_point_down(self, path):
        here = room_of(module_of(path))
        found = ours(path, for_types=False)
        beside = {room_of(name) for name in found if name.split(".")[0] == "certvae"} - {here, ""}
        assert here == "__main__" or not {name for name in found if name.split(".")[0] == "analysis"}
        assert {room for room in beside if here and FLOOR[room] >= FLOOR[here]} == set()
        assert third_party(path) <= ARRAYS | MAY_IMPORT.get(here, set())

    @pytest.mark.parametrize("path", sources("sweeps"), ids=module_of)
    def test_a_study_needs_certvae_alone(self, path):
        assert {name.split(".")[0] for name in ours(path)} <= {"certvae"}
        assert third_party(path) <= {"optuna"}

    @pytest.mark.parametrize("path", sources("analysis"), ids=module_of)
    def test_analysis_reads_rows_and_needs_no_torch(self, path):
        rooms = {room_of(name) for name in ours(path) if name.split(".")[0] == "certvae"}
        assert {room for room in rooms if FLOOR[room] > FLOOR["looks"]} == set()
        assert not {name for name in ours(path) if name.startswith("sweeps")}
        assert third_party(path) <= ANALYSIS

    def test_no_module_imports_itself_by_a_detour(self):
        known = {module_of(path): path for path in sources(*PACKAGES)}
        graph = {name: ours(path, for_types=False) & known.keys() for name, path in known.items()}
        assert len(list(TopologicalSorter(graph).static_order())) == len(graph)

    def test_proposing_needs_no_command_line(self):
        known = {module_of(path): ours(path, for_types=False) & modules() for path in sources("certvae")}
        found, left = set(), {"certvae.engine.propose"}
        while left:
            found |= left
            left = set().union(*(known[name] for name in left)) - found
        assert "certvae.engine.rule" in found
        assert "certvae.engine.command" not in found

    def test_the_trusted_base_imports_nothing_of_ours(self):
        assert ours(ROOT / "certvae" / "certificate.py") == set()

    @pytest.mark.parametrize("name", LIGHT)
    def test_reading_rows_loads_no_torch(self, name):
        """By what really happens, and not by what is written: every module of the package is imported."""
        code = (
            f"import importlib, pkgutil, sys, {name} as package;"
            f"inside = pkgutil.walk_packages(package.__path__, '{name}.') if '{name}' != 'certvae' else ();"
            "[importlib.import_module(one.name) for one in inside];"
            f"print(*sorted({HEAVY} & set(sys.modules)))"
        )
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert found.stdout.split() == []

    def test_every_import_is_a_declared_dependency(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        listed = [
            *project["dependencies"],
            *(one for extra in project["optional-dependencies"].values() for one in extra),
        ]
        declared = {re.split(r"[\[<>=! ]", one)[0].lower() for one in listed}
        names = packages_distributions()
        for path in sources(*PACKAGES, "tests"):
            for top in third_party(path):
                distributions = {name.lower() for name in names[top]}
                assert distributions & declared, f"{path.name} imports {top}: declare one of {distributions}"


class TestSize:
    @every_source
    def test_files_and_functions_stay_short(self, path):
        limit = {"certificate.py": TRUSTED_BASE}.get(path.name, LONGEST_FILE)
        limit = LONGEST_STUDY if path.parent.name == "sweeps" else limit
        assert len(path.read_text().splitlines()) <= limit
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno + 1 <= LONGEST_FUNCTION, node.name

    def test_names_say_what_is_in_a_file(self):
        assert not {path.stem for path in sources(*PACKAGES, "tests")} & VAGUE


class TestSafety:
    @every_source
    def test_nothing_is_unpickled_or_evaluated(self, path):
        banned = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "yaml"}
        found = {name.split(".")[0] for name in imported(path)} & banned
        assert found <= ({"pickle"} if path == RESTRICTED_UNPICKLER else set())
        for name, call in calls(path):
            assert name not in {"eval", "exec", "torch.load", "torch.save", "os.system", "os.popen"}
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert keywords.get("allow_pickle", "False") == "False"
            assert keywords.get("shell", "False") == "False"

    def test_the_one_unpickler_is_restricted(self):
        used = {name for name, _ in calls(RESTRICTED_UNPICKLER) if "pickle" in name.lower()}
        assert used == {"pickletools.genops"}
        reader = next(
            node for node in tree(RESTRICTED_UNPICKLER).body if isinstance(node, ast.ClassDef) and node.name == "_Plain"
        )
        assert [ast.unparse(parent) for parent in reader.bases] == ["pickle.Unpickler"]
        assert "find_class" in {node.name for node in reader.body if isinstance(node, ast.FunctionDef)}

    @every_source
    def test_no_ray_cluster_is_joined_by_accident(self, path):
        for name, call in calls(path):
            if name == "ray.init":
                assert "address" in {keyword.arg for keyword in call.keywords}

    def test_no_ray_cluster_of_others_is_stopped(self):
        assert lines_with(" ".join(["ray", "stop"])) == []

    def test_no_package_registry_is_named(self):
        assert lines_with("|".join(map(re.escape, REGISTRIES))) == []
        assert "://" not in (ROOT / "requirements.lock").read_text()

    def test_the_lock_is_the_only_lock(self):
        assert not [path.name for path in tracked() if path.name in {"uv.lock", "poetry.lock", "Pipfile.lock"}]

    def test_the_workflow_uses_actions_by_commit(self):
        """A tag can be moved to other code."""
        used = re.findall(r"uses: (\S+)", (ROOT / ".github/workflows/ci.yml").read_text())
        assert used
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in used)

    def test_every_requirement_is_hashed(self):
        """Each pin ends in a continuation line: a hash."""
        pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if re.match(r"[a-z0-9]", line)]
        assert pins
        assert [line for line in pins if "==" not in line or not line.endswith("\\")] == []

    def test_no_machine_path_is_named(self):
        homes = "|".join("/" + name + "/" for name in ("work", "home", "root", "Users"))
        assert lines_with(rf"(?<![\w.\-])({homes})\w") == []


class TestHabits:
    def test_annotations_are_evaluated(self):
        """Shapes are checked at run time, which postponed annotations would break."""
        found = [
            module_of(path) for path in sources(*PACKAGES, "tests") for name in imported(path) if name == "__future__"
        ]
        assert found == []

    @every_source
    def test_every_fault_says_what_and_what_to_do(self, path):
        """What and remedy are written out; where and cause are named, and no part is empty."""
        for name, call in calls(path):
            if name.split(".")[-1] not in FAULTS:
                continue
            assert len(call.args) == 2
            assert {keyword.arg for keyword in call.keywords} <= {"where", "cause"}
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            assert all(ast.unparse(part) not in {"''", "None"} for part in given)

    @every_source
    def test_no_fault_is_built_and_dropped(self, path):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                assert ast.unparse(node.value.func).split(".")[-1] not in FAULTS

    @every_source
    def test_every_module_says_what_it_is(self, path):
        assert ast.get_docstring(tree(path))

    @every_source
    def test_nothing_is_named_by_a_string_registry(self, path):
        """Closed unions and `match` instead of `elif kind == "..."`."""
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.If) and node.orelse and isinstance(node.orelse[0], ast.If):
                tests = (node.test, node.orelse[0].test)
                assert not all(_compares_a_name_with_a_text(test) for test in tests), ast.unparse(node.test)


def _compares_a_name_with_a_text(test: ast.expr) -> bool:
    match test:
        case ast.Compare(ops=[ast.Eq()], comparators=[ast.Constant(value=str())]):
            return True
        case _:
            return False
