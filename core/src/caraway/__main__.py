"""``python -m caraway``: the command line, where scripts aren't on the path."""

from __future__ import annotations

from importlib import import_module

if __name__ == "__main__":
    # by name: the client's half doesn't depend on the command line
    import_module("caraway.cli.__main__").main()
