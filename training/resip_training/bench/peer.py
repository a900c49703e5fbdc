"""Run a program of another project in a virtual environment of its own, made on first use with pinned packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from resip.errors import ResipError

from resip_training.bench.figures import Figures
from resip_training.sim import assets

#: Simulators. Each is a program and its requirements in ``peers``; the second's packages take 6 GB (torch with CUDA).
PEERS: Final = ("nut_assembly_round", "peg_insertion_side")
#: The same for behaviour cloning.
BC_PEER: Final = "robomimic_bc"

T = TypeVar("T")

_FOLDER: Final = Path(__file__).parent / "peers"
_INSTALLED: Final = "requirements.txt"  # what an environment was made from, written when it is complete


class PeerError(ResipError):
    """A program of another project could not be installed or run."""


def measure_peer(name: str, seconds: float) -> Figures:
    """Step the peer's task for ``seconds`` of simulated time.

    Raises:
      PeerError: its packages cannot be installed, or its program failed.
    """
    return run_peer(name, Figures, str(seconds))


def run_peer(name: str, kind: type[T], *arguments: str) -> T:
    """Run a peer's program: the figures, of the dataclass ``kind``, that it prints last.

    Raises:
      PeerError: its packages cannot be installed, or its program failed.
    """
    program = _FOLDER / f"{name}.py"
    output = _run([str(_python(name)), str(program), *arguments], f"{name} failed")
    try:
        return kind(**json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError, TypeError) as error:
        raise PeerError(f"{program.name} printed no figures: {error}") from error


def _python(name: str) -> Path:
    """Interpreter of the peer's environment, which is made unless it is there as required."""
    requirements = _FOLDER / f"{name}.txt"
    folder = assets.cache_root() / "bench" / name
    python, installed = folder / "bin/python", folder / _INSTALLED
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        print(f"installing {name} into {folder}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], f"cannot make {folder}")
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)], f"cannot install {name}")
        installed.write_text(requirements.read_text())
    return python


def _run(command: Sequence[str], failure: str) -> str:
    """Standard output of ``command``, which sees none of this program's packages and computes in one thread."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerError(f"{failure}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise PeerError(f"{failure}: {last}")
    return done.stdout
