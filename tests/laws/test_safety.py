"""THE SAFETY LAW: nothing in the project runs code that it reads: no pickle, no eval or
exec, no shell. One file may, for it is a jail (docs/graders.md) and a process of its
own, started by one other file.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("genlm", "experiments", "benchmarks")
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}
MODULES |= {"joblib", "jsonpickle"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *(f"builtins.{name}" for name in BUILTINS),
    "os.system",
    "os.popen",
    "runpy.run_path",
    "runpy.run_module",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
}
KEYWORDS = {"allow_pickle", "shell"}  # forbidden, but for the constant False


def _faults(source: str) -> list[str]:
    """What a source file does that it may not, a line each."""
    nodes = list(ast.walk(ast.parse(source)))
    full_names = _full_names(nodes)
    found = []
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bad = {name.split(".")[0] for name in _imported(node)} & MODULES
            found += [f"line {node.lineno}: imports {name}" for name in sorted(bad)]
        elif isinstance(node, ast.Call):
            name = _dotted(node.func)
            first, dot, rest = name.partition(".")
            name = full_names.get(first, first) + dot + rest
            if name in BUILTINS | CALLS:
                found.append(f"line {node.lineno}: calls {name}")
            for keyword in node.keywords:
                constant = isinstance(keyword.value, ast.Constant)
                if keyword.arg in KEYWORDS and not (
                    constant and keyword.value.value is False
                ):
                    found.append(f"line {node.lineno}: {keyword.arg} in {name}()")
    return found


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names]


def _full_names(nodes: list[ast.AST]) -> dict[str, str]:
    """What each imported name stands for: `from os import system as s` gives {s:
    os.system}."""
    return {
        alias.asname or alias.name: full
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias, full in zip(node.names, _imported(node))
        if alias.asname or isinstance(node, ast.ImportFrom)
    }


def _dotted(node: ast.expr) -> str:
    """'a.b.c' of a chain of attributes; '' for what is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)):
        return f"{inner}.{node.attr}"
    return ""


FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


JAIL = ROOT / "genlm" / "evaluate" / "jail.py"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_runs_what_it_reads(path: Path):
    faults = _faults(path.read_text("utf-8"))
    if path == JAIL:
        (fault,) = faults
        assert fault.endswith("calls runpy.run_path")
    else:
        assert faults == []


def test_one_file_starts_the_jail_and_none_imports_it():
    using = [p for p in FILES if p != JAIL and '"jail.py"' in p.read_text("utf-8")]
    assert using == [JAIL.with_name("code.py")]
    assert not any("import jail" in p.read_text("utf-8") for p in FILES)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as harmless",
        "def f():\n    from marshal import loads",
        "import shelve, os",
        "from dill import load",
        "eval('1')",
        "exec(text)",
        "compile(text, '', 'exec')",
        "import builtins\nbuiltins.eval('1')",
        "__import__('pickle')",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run(text, shell=True)",
        "os.system('ls')",
        "from os import system\nsystem('ls')",
        "import runpy\nrunpy.run_path(path)",
        "import os as o\no.popen('ls')",
        "yaml.load(text)",
        "from yaml import unsafe_load as load\nload(text)",
    ],
)
def test_what_runs_code_is_seen(source: str):
    assert len(_faults(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "spec.loader.exec_module(module)",
        "re.compile('a')",
        "jax.jit(f).lower(x).compile()",
        "ast.literal_eval('1')",
        "np.load(path, allow_pickle=False)",
        "subprocess.run(['ls'], shell=False)",
        "yaml.safe_load(text)",
    ],
)
def test_what_runs_no_code_may_stay(source: str):
    assert _faults(source) == []
