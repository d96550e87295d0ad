"""The repository itself: it builds, installs, keeps its layers apart, and does not get in the way of Python."""

from __future__ import annotations

import ast
import glob
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from apache_beam.runners.portability.stager import Stager
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PARTS = ["artifacts", "transforms", "core", "jobs"]
"""The parts of the package; each imports only what stands before it."""
FOLDERS = {"artifacts": "artifacts", "transforms": "transforms", "core": "platform", "jobs": "jobs"}
HEAVY = {"apache_beam", "onnx", "tensorflow", "tensorflow_transform", "torch", "pandas", "sklearn", "polars"}
WITH_BEAM = {
    "beam", "beam_ml", "combining", "elements", "engine", "stock_providers", "stock_steps", "texts_told",
}
"""The modules of featuremill.transforms that may import Beam."""


def modules(part: str) -> Iterator[tuple[str, Path]]:
    root = ROOT / FOLDERS[part]
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def run(*command: str, cwd: Path, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environment
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_namespace_stays_open() -> None:
    # A platform/__init__.py would stand in for the standard library's module in every process started at the root; a
    # featuremill/__init__.py in one part would hide the other three.
    for folder in FOLDERS.values():
        assert (ROOT / folder / "featuremill").is_dir()
        assert not (ROOT / folder / "__init__.py").exists()
        assert not (ROOT / folder / "featuremill" / "__init__.py").exists()


def test_the_standard_library_is_found_from_the_root() -> None:
    assert run(sys.executable, "-c", "import platform; print(platform.python_version())", cwd=ROOT).startswith("3.")


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source archive, built by Beam as for ``--setup_file=./setup.py``, from a copy so that nothing stays behind."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    out = tmp_path_factory.mktemp("sdist")
    module, function = Stager.__module__, "_build_setup_package"
    assert hasattr(Stager, function), "Beam builds packages elsewhere now: follow it"
    script = f"from {module} import Stager; Stager.{function}('./setup.py', {str(out)!r})"
    run(sys.executable, "-c", script, cwd=copy)
    (archive,) = glob.glob(f"{out}/*.tar.gz")
    return Path(archive)


def shipped(root: Path) -> set[str]:
    files = (p for p in (root / "featuremill").rglob("*") if p.suffix in (".py", ".yaml", ".typed", ".css", ".j2"))
    return {str(p.relative_to(root)) for p in files}


@pytest.mark.slow
def test_the_package_installs_from_its_source_archive(sdist: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", str(sdist), cwd=tmp_path)
    (wheel,) = tmp_path.glob("wheel/*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", "clean", cwd=tmp_path)
    clean = str(tmp_path / "clean/bin/python")
    run(*pip, "--python", clean, "install", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)
    script = (
        "import json, sysconfig\nfrom importlib.util import find_spec\nfrom importlib.metadata import entry_points\n"
        f"parts = {{p: find_spec('featuremill.' + p).origin for p in {PARTS!r}}}\n"
        "scripts = [e.value for e in entry_points(group='console_scripts') if e.name == 'featuremill']\n"
        "print(json.dumps([parts, scripts, sysconfig.get_path('purelib')]))"
    )
    parts, scripts, site = json.loads(run(clean, "-c", script, cwd=tmp_path))
    assert parts == {p: f"{site}/featuremill/{p}/__init__.py" for p in PARTS}
    assert scripts == ["featuremill.jobs.cli:main"]
    assert shipped(Path(site)) == set().union(*(shipped(ROOT / folder) for folder in FOLDERS.values()))
    # And its modules work: with the dependencies of this environment, but the installed package first.
    script = f"import featuremill.core.where as where; assert where.__file__.startswith({site!r}), where.__file__"
    run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=site)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("part", PARTS)
def test_imports_go_one_way(part: str) -> None:
    allowed = set(PARTS[: PARTS.index(part) + 1])
    found = {
        (name, other.split(".")[1])
        for name, path in modules(part) for other in imported(path) if other.startswith("featuremill.")
    }  # fmt: skip
    assert {f for f in found if f[1] not in allowed} == set()
    assert len(list(modules(part))) > 1


@pytest.mark.parametrize("part", ["artifacts", "transforms"])
def test_what_serves_is_light(part: str) -> None:
    pure = [name for name, _ in modules(part) if name.split(".")[-1] not in WITH_BEAM]
    script = (
        "import importlib, json, sys\n"
        f"for name in {pure!r}: importlib.import_module(name)\n"
        f"print(json.dumps(sorted({HEAVY!r} & sys.modules.keys())))"
    )
    paths = os.pathsep.join(str(ROOT / folder) for folder in FOLDERS.values())
    assert json.loads(run(sys.executable, "-c", script, cwd=ROOT, PYTHONPATH=paths)) == []


def test_constraints_are_those_of_this_environment() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {r.name for r in pinned if len(r.specifier) != 1 or "==" not in str(r.specifier)} == set()
    names = {r.name.lower().replace("_", "-"): r for r in pinned}
    for name in ("apache-beam", "pyarrow", "numpy", "pydantic", "ruff", "mypy"):
        assert version(name) in names[name].specifier
