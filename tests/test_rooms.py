"""Imports only go up: which room may import which."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import cliptune
from cliptune.registry import add_ons, names

ROOT = Path(cliptune.__file__).parent
# Nothing of the package stands below these.
BOTTOM = {"batch", "files", "noted", "preprocessing", "reading", "saliency", "timing", "variables", "version"}
# Each room, and each room inside a room, with those that it may import besides itself and the bottom.
ALLOWED = {
    "clip": {"clip/towers"},
    "clip/towers": {"clip"},
    "clip/foreign": {"clip", "clip/towers"},
    "clip/weights": {"clip", "clip/towers", "clip/foreign"},
    "params": set(),
    "objectives": set(),
    "data": {"data/own", "data/published", "data/tinyworld"},
    "data/own": {"data"},
    "data/own/formats": {"data", "data/own"},  # one file each, found by `data/own/readers` without an import
    "data/published": {"data", "data/own"},
    "data/selection": {"data"},
    "data/tinyworld": {"data"},
    "texts": {"clip"},
    "prompts": {"clip", "clip/towers", "params"},
    "heads": {"texts", "clip", "clip/towers"},
    "images": {"data"},
    "calibration": set(),
    "adapter": {"calibration", "clip", "texts", "prompts", "heads", "images"},
    "recipe": {"adapter"},
    "visual": {"recipe", "objectives", "texts"},
    "wrappers": {"adapter", "recipe", "clip", "clip/towers", "texts", "params", "prompts", "heads", "objectives"},
    "registry": {
        *("adapter", "recipe", "clip", "clip/foreign", "clip/towers", "clip/weights", "texts", "data/published"),
        *("methods", "wrappers"),
    },
    "methods": {
        *("adapter", "recipe", "visual", "clip", "texts", "params", "prompts", "heads", "objectives", "wrappers"),
        *("registry",),  # the entrance alone, where names of the registry are found as well
    },
    "interop": {
        "adapter",
        "recipe",
        "clip",
        "clip/weights",
        "texts",
        "params",
        "prompts",
        "heads",
        "wrappers",
        "registry",
    },
    "runs": {"adapter", "calibration", "clip", "clip/weights", "texts", "prompts", "registry", "data"},
    "features": {"clip", "data", "data/own"},  # and by name, for their code's hash, what stands in clip's rooms
    "training": {"adapter", "recipe", "data", "runs", "features"},
    "analysis": {"adapter", "clip", "clip/towers", "texts", "prompts", "heads"},
    "doctor": {"clip", "data", "heads", "features"},
    "masking": {"adapter", "clip", "clip/towers", "clip/weights", "data"},
    "protocols": {
        *("adapter", "calibration", "clip", "clip/weights", "texts", "registry", "runs", "training", "features"),
        *("data", "data/published", "data/selection", "data/tinyworld"),
    },
    "explain": {"adapter", "analysis", "data", "features", "images", "runs", "protocols", "results", "explain/kinds"},
    "explain/kinds": {
        *("explain", "adapter", "analysis", "clip", "clip/towers", "data", "heads", "prompts", "params", "texts"),
        *("wrappers", "runs", "registry", "masking", "results"),
    },
    "report": {"explain", "results", "runs"},
    "exported": {"data"},  # without torch
    "exporting": {
        *(
            "adapter",
            "calibration",
            "images",
            "recipe",
            "clip",
            "heads",
            "prompts",
            "texts",
            "data",
            "registry",
            "runs",
            "exported",
        ),
    },
    "sharing": {"adapter", "clip", "clip/weights", "registry", "runs"},
    "serving": {"adapter", "data", "runs", "exported", "exporting"},
    "choosing": {
        *("adapter", "calibration", "clip", "data", "heads", "prompts", "registry", "runs", "texts", "training"),
        *("protocols", "results"),
    },
    "sklearn": {
        *("adapter", "choosing", "clip", "clip/weights", "data", "data/own", "protocols", "registry", "runs", "texts"),
        *("training",),
    },
    "results": {"data", "data/published", "runs"},
    "sweep": {"clip", "clip/weights", "data", "registry", "runs", "training", "protocols", "results"},
    "cli/shared": {
        *("sharing", "adapter", "clip", "clip/weights", "data", "registry", "runs", "training", "protocols", "results"),
        *("choosing", "doctor"),
    },
    "cli/commands": {
        *("cli/shared", "clip/weights", "texts", "data", "data/own", "data/published", "data/tinyworld", "registry"),
        *("runs", "training", "protocols", "results", "sweep", "interop", "masking", "explain", "report"),
        *("exporting", "serving", "sharing", "choosing", "doctor", "features"),
    },
    "cli/released": {"cli/shared", "cli/commands", "clip/weights", "data/published", "registry", "runs"},
    "cli": {"cli/commands", "cli/released"},
}
ENTRANCES = {"__init__", "__main__"}
# Only these may name methods: the methods themselves, the formats and commands of named releases, published numbers,
# and what a user reads in the commands.
MAY_NAME_METHODS = (
    "methods",
    "wrappers",
    "explain/kinds",
    "interop",
    "cli/released",
    "cli/commands",
    "results/published",
)
# Words that are a method's name and stand for something else, or for a paper's own choice.
OTHER_WORDS = {
    "data/catalog": {"coop"},  # the layout of the field's folders
    "data/spec": {"coop"},
    "protocols/data_efficiency": {"maple"},  # who judges the images in DAPT's comparison
    "registry/checks": {"coop"},  # the host that an add-on is tried on
}


def room_of(path: Path) -> str:
    """A folder, with its folder; or a single file of the package."""
    inside = path.relative_to(ROOT).with_suffix("")
    return "/".join(inside.parts[:-1]) or inside.name


def imported_rooms(path: Path) -> set[str]:
    found = {home(*imported) for imported in imports(ast.parse(path.read_text(encoding="utf-8")))}
    return {room_of(file_of(module)) for module in found}


def home(module: str, name: str) -> str:
    """The file that a name is taken from; a lazy room stands for itself."""
    return f"{module}.{name}" if file_of(f"{module}.{name}").exists() else module


def file_of(module: str) -> Path:
    place = ROOT.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def test_imports_only_go_up():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(path)
        if room in ENTRANCES:
            continue
        assert room in ALLOWED | dict.fromkeys(BOTTOM), f"{path.relative_to(ROOT)} stands in no known room"
        allowed = ALLOWED.get(room, set()) | {room} | BOTTOM
        wrong += [f"{path.relative_to(ROOT)} imports {r}" for r in imported_rooms(path) - allowed]
    assert not wrong, "\n".join(wrong)


def test_methods_are_named_where_methods_are_at_home():
    known = {*names(), *add_ons()} - {"bias"}  # which is a port's name, and a parameter's, as well
    found = {}
    for path in ROOT.rglob("*.py"):
        where = path.relative_to(ROOT).with_suffix("").as_posix()
        if not where.startswith(MAY_NAME_METHODS):
            constants = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
            if named := {c for c in constants if isinstance(c, str) and c in known} - OTHER_WORDS.get(where, set()):
                found[where] = named
    assert not found


def test_there_is_no_circle_of_files():
    """Also not among imports that are made late or for types alone."""
    graph = import_graph()
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def import_graph() -> dict[str, set[str]]:
    """Module → modules of the package that it takes names from; a room's entrance stands for where it has the name."""
    trees = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}
    entrances = {module_of(path): imports(trees[module_of(path)]) for path in ROOT.rglob("__init__.py")}

    def home(module: str, name: str) -> str:
        if f"{module}.{name}" in trees:
            return f"{module}.{name}"
        further = [(m, n) for m, n in entrances.get(module, ()) if n == name and m != module]
        return home(*further[0]) if further else module

    graph = {}
    for module, tree in trees.items():
        found = set() if module in entrances else {home(*imported) for imported in imports(tree)}
        graph[module] = (found & trees.keys()) - {module}
    return graph


def imports(tree: ast.AST) -> list[tuple[str, str]]:
    """(module, name) of everything that is imported from the package, wherever in the file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cliptune"):
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [tuple(alias.name.rpartition(".")[::2]) for alias in node.names if "cliptune." in alias.name]
    return found


def module_of(path: Path) -> str:
    return ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def test_the_walk_sees_through_entrances():
    graph = import_graph()
    assert "cliptune.prompts.pixels" in graph["cliptune.methods.ar"]
    assert "cliptune.clip.weights.locate" in graph["cliptune.clip.weights.load"]


def test_there_is_no_import_of_training_from_below():
    """The walk must see something: the rooms that matter are really imported."""
    assert "adapter" in imported_rooms(ROOT / "methods" / "coop.py")
    assert "clip" in imported_rooms(ROOT / "adapter.py")
