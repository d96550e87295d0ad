"""What is called of TensorRT against the published bindings of both major versions, by mypy; no GPU is needed.

The stubs in ``tests/typing`` say where they come from.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featuremill.transforms import tensorrt_plans, tensorrt_runner

pytest.importorskip("mypy")
STUBS = Path(__file__).parents[1] / "typing"
CONFIG = """[mypy]
python_version = 3.11
check_untyped_defs = true
follow_imports = skip
ignore_missing_imports = true
[mypy-tensorrt.*]
follow_imports = normal
ignore_missing_imports = false
"""
WRONG = """import tensorrt as trt

config = trt.Builder(trt.Logger(trt.Logger.WARNING)).create_builder_config()
config.set_flag(trt.BuilderFlag.FP16)
config.max_workspace_size = 1
"""


@pytest.mark.parametrize("major", [10, 11])
def test_calls_fit_the_published_bindings(tmp_path: Path, major: int) -> None:
    (tmp_path / "mypy.ini").write_text(CONFIG)
    (tmp_path / "wrong.py").write_text(WRONG)
    files = [str(tensorrt_plans.__file__), str(tensorrt_runner.__file__), str(tmp_path / "wrong.py")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", os.devnull,
         "--no-error-summary", "--scripts-are-modules", *files],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(STUBS / f"tensorrt_{major}")},
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line for line in found if not line.startswith("wrong.py")] == [], done.stdout + done.stderr
    # That errors would show: 11 took the precision flags away, and both the size of the workspace.
    wrong = [line for line in found if line.startswith("wrong.py")]
    assert len(wrong) == (1 if major == 10 else 2), done.stdout + done.stderr
    assert "max_workspace_size" in wrong[-1] and (major == 10 or '"FP16"' in wrong[0])
