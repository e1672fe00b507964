"""The house rules that a program can check. The others need a reader."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "routers", "backends")
MODULE_LINES = 400
FUNCTION_LINES = 50
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "managers"}

# Where nothing may pass, whatever it is: one place a kind of border, and no other.
BORDERS = {
    "gateway/api/completions.py:Completions.__call__",  # a request: the caller gets a 500, the process lives
    "backends/health.py:HealthChecker.run",  # a task in the background: a check that breaks is a failed check
    "routers/pipeline.py:_Notes.call",  # a plugin: its fault costs its own opinion
}
HEAVY = ("fastapi", "starlette", "uvicorn", "uvloop", "httpx", "numpy", "pydantic", "prometheus_client", "onnxruntime", "rich.table")


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)


PRODUCT = modules(*PACKAGES)
OURS = [*PRODUCT, *modules("tests", "scripts")]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its dotted name, nested ones too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{within}{child.name}", child
            yield from functions(child, f"{within}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{within}{child.name}.")
        else:
            yield from functions(child, within)


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """`except:`, or one that names Exception or BaseException and does not raise again whatever came."""
    named = [handler.type] if not isinstance(handler.type, ast.Tuple) else handler.type.elts
    if handler.type is not None and not any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in named):
        return False
    last = handler.body[-1]
    return not (isinstance(last, ast.Raise) and last.exc is None)


@pytest.mark.parametrize("path", OURS, ids=place)
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", OURS, ids=place)
def test_a_function_has_at_most_50_lines(path: Path) -> None:
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions(parse(path))}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", OURS, ids=place)
def test_no_global_statement(path: Path) -> None:
    assert [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.Global)] == []


def test_names_of_modules_say_what_they_hold() -> None:
    assert [place(path) for path in OURS if VAGUE_NAMES & set(re.split(r"[_.]", f"{path.parent.name}.{path.stem}".lower()))] == []


def test_names_of_classes_and_functions_say_what_they_are() -> None:
    vague = []
    for path in PRODUCT:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", node.name)
                if VAGUE_NAMES & {word.lower() for word in words}:
                    vague.append(f"{place(path)}:{node.lineno} {node.name}")
    assert vague == []


def test_every_exception_is_caught_only_at_the_borders() -> None:
    found = set()
    for path in PRODUCT:
        tree = parse(path)
        inside = {id(handler): name for name, node in functions(tree) for handler in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and catches_everything(node):
                found.add(f"{place(path)}:{inside.get(id(node), 'module')}")
    assert found == BORDERS


def test_no_keyword_bag_crosses_the_border_of_a_module() -> None:
    found = []
    for path in PRODUCT:
        public = [(name, node) for name, node in functions(parse(path)) if not any(part.startswith("_") for part in name.split("."))]
        found += [f"{place(path)}:{name}" for name, node in public if node.args.kwarg is not None]
    assert found == []


@pytest.mark.parametrize("path", modules("tests"), ids=place)
def test_tests_replace_nothing_behind_the_back_of_the_code(path: Path) -> None:
    imported = [
        alias.name
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]
    ]
    assert [name for name in imported if name.split(".")[-1] == "mock"] == []
    fixtures = [argument.arg for _, node in functions(parse(path)) for argument in node.args.args]
    assert "mocker" not in fixtures


def test_the_arrows_between_the_packages_go_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_make_targets_that_the_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {
        (place(path), target)
        for path in documents
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named
    assert {(path, target) for path, target in named if target not in targets} == set()


def test_every_make_target_is_phony_or_a_stamp_and_described() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert targets == set(phony[1].split())


def test_the_command_line_starts_without_what_its_commands_need() -> None:
    code = "import sys, gateway.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


def test_lock_files_name_versions_and_hashes_and_no_place() -> None:
    for path in sorted((ROOT / "requirements").glob("*.lock")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        strange = [line for line in lines if not re.match(r"[a-z0-9-]+==[^ /]+ (; [^/]+ )?\\$|    --hash=sha256:[0-9a-f]{64}( \\)?$", line)]
        assert strange == [], path.name


def test_the_locked_run_time_covers_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=\[; ]", entry)[0].lower() for entry in project["dependencies"]}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/runtime.lock").read_text(encoding="utf-8"), re.MULTILINE))
    assert wanted - locked == set()
