"""The command ``caraway``: one module a command, imported when it is called."""
