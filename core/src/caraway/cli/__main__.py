"""``caraway`` and ``python -m caraway.cli``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from caraway.app import Caraway


def main(argv: list[str] | None = None, *, app: Caraway | None = None) -> NoReturn:
    """Run the command line and exit with its code.

    Args:
        argv: without the program's name; default ``sys.argv[1:]``.
        app: in place of the one that ``-A`` names, for `Caraway.start`.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:  # asked often, by scripts: spares all other imports
        from caraway import __version__

        sys.stdout.write(f"{__version__}\n")
        sys.exit()
    from caraway.cli.main import run
    from caraway.cli.program import Program

    sys.exit(run(arguments, program=Program(app)))


if __name__ == "__main__":
    main()
