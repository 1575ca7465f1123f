"""Imports run one way: from the command down to the text utilities, and no two files import each other."""

import ast
import functools
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "vision_jax"
# From the top down: a room may import those after it, and itself.
ROOMS = (
    ("main", "tools", "cli"),
    ("networks",),
    ("listing", "command_line", "study"),
    ("config_files",),
    ("train",),
    ("evaluate", "monitor", "rewind", "observation"),
    ("run", "environment"),
    ("inference",),
    ("tasks",),
    ("report",),
    ("analysis",),
    ("pretrained",),
    ("data",),
    ("metrics",),
    ("models",),
    ("optim",),
    ("ops",),
    ("checkpoints", "peers"),
    ("writers", "progress", "memory", "run_lock"),
    ("parallel", "allocator", "ending"),
    ("config",),
    ("option_table",),
    ("utils",),
)
# Closer than the order says.
NEVER = {
    "report": {"tasks", "models", "pretrained", "run", "evaluate", "train", "inference"},
    "analysis": {"tasks", "models", "pretrained", "run", "evaluate", "train", "inference"},
    "tasks": {"report", "analysis"},
    "data": {"models", "metrics", "pretrained"},
    "metrics": {"models", "data", "tasks"},
    "config": {"models", "data", "tasks"},
}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere, in functions too."""
    files = {path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")}
    modules = {".".join(path.parts).removesuffix(".__init__"): path for path in files}
    found = {}
    for module, path in modules.items():
        tree = ast.parse((PACKAGE.parent / path).with_suffix(".py").read_text())
        for node in ast.walk(tree):  # What only a type checker reads.
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from package import module` is an import of the module, not of the package's face.
                names |= {
                    full if (full := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names
                }
        found[module] = {name for name in names if name in modules} - {module}
    return found


def room(module: str) -> str:
    """'vision_jax.data.folder' -> 'data'."""
    return module.split(".")[1] if "." in module else ""


def test_no_two_files_import_each_other():
    below: dict[str, int] = {}

    def depth(module: str, above: tuple[str, ...] = ()) -> int:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in below:
            below[module] = 1 + max((depth(other, (*above, module)) for other in imports()[module]), default=0)
        return below[module]

    for module in imports():
        depth(module)
    assert len(below) == len(imports()) > 100


@pytest.mark.parametrize("module", sorted(imports()))
def test_arrows_run_down(module):
    level = {name: number for number, names in enumerate(ROOMS) for name in names}
    here = room(module)
    if not here:
        assert not imports()[module], "`import vision_jax` loads nothing"
        return
    assert here in level, f"{here} has no place in ROOMS"
    for other in imports()[module]:
        there = room(other)
        if there in ("", here):  # The package itself holds its version.
            continue
        assert level[there] > level[here], f"{module} imports {other}, which stands above it or beside it"
        assert there not in NEVER.get(here, ()), f"{module} must not know {other}"


def test_what_all_tasks_share_knows_no_task():
    tasks = {f"vision_jax.tasks.{name}" for name in ("classification", "cached_features", "gan", "super_resolution")}
    for module in ("base", "state", "registry"):
        assert not imports()[f"vision_jax.tasks.{module}"] & tasks
    assert {room(module) for module in imports()["vision_jax.config"]} == {"option_table", "utils"}


def test_libraries_have_one_importer():
    """Orbax is known to checkpoints, TensorBoard and W&B to their writers."""
    for library, owners in {"orbax": {"checkpoints"}, "wandb": {"writers"}, "tensorboardX": {"writers"}}.items():
        found = {
            path.relative_to(PACKAGE).parts[0].removesuffix(".py")
            for path in PACKAGE.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if (isinstance(node, ast.Import) and any(a.name.partition(".")[0] == library for a in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == library)
        }
        assert found == owners, library
