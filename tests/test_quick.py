"""The quick selection covers every package and names tests that exist."""

import ast

from .conftest import NOT_QUICK, QUICK


def test_every_package_has_quick_tests(repository):
    package = repository / "vision_jax"
    sources = [path for kind in ("*.py", "*.cc") for path in package.rglob(kind) if path.name != "__init__.py"]
    packages = {path.parent.relative_to(package).as_posix() for path in sources}
    missing = {"" if name == "." else name for name in packages} - {name for name, tests in QUICK.items() if tests}
    assert not missing, f"name some tests of {sorted(missing)} in QUICK of tests/conftest.py"


def test_the_tables_name_tests_that_exist(repository):
    for name in (*(name for names in QUICK.values() for name in names), *NOT_QUICK):
        file, _, test = name.partition("::")
        tree = ast.parse((repository / "tests" / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not test or test in functions, f"there is no test {name}"
