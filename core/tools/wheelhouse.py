"""Build every wheel of this repository, core and shipped plugins, into dist/.

Then, in any environment: ``pip install --find-links dist "caraway[msgpack]"``.

    python core/tools/wheelhouse.py [FOLDER]
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import matrix

ROOT = Path(__file__).parents[2]


def build(target: Path, root: Path = ROOT) -> list[Path]:
    """Build the wheels into ``target``; return them.

    Older wheels of the same distributions there are removed: pip would prefer them to a
    rebuilt one of the same version that it has cached.

    Raises:
        subprocess.CalledProcessError: a build failed; its output is on standard error.
    """
    target.mkdir(parents=True, exist_ok=True)
    folders = [root / "core"]
    folders += [root / row["path"] for row in matrix.shipped(matrix.read(root)).values()]
    for old in target.glob("caraway*.whl"):
        old.unlink()
    # Where the build backend is there already, nothing has to be fetched.
    here = ["--no-isolation"] if find_spec("hatchling") else []
    for folder in folders:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", *here, "-o", target, folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return sorted(target.glob("*.whl"))


if __name__ == "__main__":
    for wheel in build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"):
        print(wheel)
