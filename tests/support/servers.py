"""Local servers for tests: BigQuery, S3 and Cloud Storage as processes of their own, started when first asked for.

The servers need other versions of libraries than the project does, so they live in a virtual environment of their own,
which `make servers` makes. The environment variable FEATUREMILL_SERVERS names another one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["ServerError", "answers", "free_port", "running", "servers_bin", "servers_folder"]

START_SECONDS = 60
"""How long a server may take until it answers; on a busy machine they take ten."""
STOP_SECONDS = 10


class ServerError(RuntimeError):
    """A server did not start."""


def servers_folder() -> Path:
    """The servers' environment, whether it is there or not."""
    return Path(os.environ.get("FEATUREMILL_SERVERS") or Path(__file__).parents[2] / ".venv-servers").absolute()


def servers_bin(program: str) -> str:
    """The path of a program in the servers' environment."""
    path = servers_folder() / "bin" / program
    if not path.exists():
        raise ServerError(f"{path} is not there. Run `make servers`, or set FEATUREMILL_SERVERS to its environment.")
    return str(path)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(
    command: Sequence[str], *, ports: Sequence[int], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server for as long as the block lasts: started, waited for on all its ports, ended.

    Raises
    ------
    ServerError
        With what it said last, when it ends or does not answer in time.
    """
    # The main environment's packages must not be seen by the server's own Python. DuckDB looks for its extensions in
    # the home folder.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    inherited["HOME"] = str(servers_folder() / "home")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            list(command), env={**inherited, **(env or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _wait(process, command, ports, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], command: Sequence[str], ports: Sequence[int], log: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(answers(p) for p in ports):
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            log.seek(0)  # type: ignore[attr-defined]  # the class of temporary files is private
            said = log.read()[-2000:].decode(errors="replace")  # type: ignore[attr-defined]  # the same
            state = f"ended with status {ended}" if ended is not None else f"did not answer in {START_SECONDS} s"
            raise ServerError(f"{command[0]} {state}. It said:\n{said}")
        time.sleep(0.05)
