"""Structure: small folders, one module for each public name, no circle of imports, tests that mirror."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "deflow_cli"
TESTS = ROOT / "tests"
MOST_FILES = 12  # of Python in a folder
APART = {"golden", "gpu", "bench", "zoo", "faults"}  # folders of tests that mirror no folder of the package

# Names that several modules define, with the reason.
SHARED_NAMES = {
    "coupling_forward": "one signature: the reference, its fused twin, and the choice between them",
    "coupling_inverse": "one signature: the reference, its fused twin, and the choice between them",
    "noise_field": "one signature: the choice, and its fused twin",
    "weight_gradients": "one signature: the reference, its fused twin, and the choice between them",
    "default_preset": "what a run of one kind takes where no preset is given",
    "load_model": "the API reads a model as a DegradationModel, the file format as a network and facts",
    "load_restorer": "the API reads a restorer as a Restorer, the file format as a network and facts",
}
# Modules that come with a declared dependency, in whose terms they are used.
BROUGHT_BY = {"triton": "torch", "markupsafe": "jinja2"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public_names(module: ast.Module) -> Iterator[str]:
    """Classes, functions and constants that a module defines at its top level and does not mark private."""
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            # A single letter is a type variable.
            names = [name.id for name in found if name.id.isupper() and len(name.id) > 1]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def are_one_command(places: list[str]) -> bool:
    """Whether a name is a command's: defined once in the command line, the API and the workflows."""
    rooms = [
        "api" if place.startswith("deflow_cli.workflows.api.") else place.split(".")[1]  # cli or workflows
        for place in places
    ]
    return set(rooms) <= {"cli", "api", "workflows"} and len(set(rooms)) == len(rooms)


def imports(module: ast.Module) -> Iterator[str]:
    """Absolute names that a module imports while it is itself being imported.

    Imports inside functions come later, and those under ``TYPE_CHECKING`` never: neither can close a circle.
    """
    waiting: list[ast.stmt] = list(module.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            waiting += [child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom)]


def test_folders_are_small():
    crowded = {}
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        if (count := len(list(folder.glob("*.py")))) > MOST_FILES:
            crowded[str(folder.relative_to(ROOT))] = count
    assert not crowded


def test_a_public_name_is_defined_in_one_module():
    places = defaultdict(list)
    for module, path in modules().items():
        for name in public_names(tree(path)):
            places[name].append(module)
    shared = {name: found for name, found in places.items() if len(found) > 1 and not are_one_command(found)}
    unknown = {name: found for name, found in shared.items() if name not in SHARED_NAMES}
    assert not unknown, "rename one of them, or give the reason in SHARED_NAMES"
    assert set(SHARED_NAMES) <= set(shared), "an exception that is none any more"


def test_modules_import_each_other_in_one_direction():
    known = modules()
    graph = {
        name: sorted({target for target in imports(tree(path)) if target in known and target != name})
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_tests_mirror_the_package():
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")} - {Path(".")}
    mirrored = [folder for folder in folders if folder.parts[0] not in APART]
    assert [str(folder) for folder in sorted(mirrored) if not (PACKAGE / folder).is_dir()] == []


def test_third_party_imports_are_declared():
    """Every distribution that the package imports, in functions too, is one of its dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"]]
    for optional in project["optional-dependencies"].values():
        requirements += optional
    declared = {_normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}
    distributions = importlib.metadata.packages_distributions()
    undeclared = defaultdict(set)
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                targets = [node.module or ""]
            else:
                continue
            for top in {target.partition(".")[0] for target in targets}:
                if top == "deflow_cli" or top in sys.stdlib_module_names:
                    continue
                providers = [*distributions.get(top, []), top, BROUGHT_BY.get(top, top)]
                if not declared & {_normal(provider) for provider in providers}:
                    undeclared[top].add(name)
    assert not undeclared


def _normal(distribution: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
