"""``caraway`` and ``python -m caraway.cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] == ["--version"]:  # asked often, by scripts: spares all other imports
        from caraway import __version__

        sys.stdout.write(f"{__version__}\n")
        return
    from caraway.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()
