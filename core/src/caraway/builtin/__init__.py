"""The built-in components, and the plugins that register them.

They use the very hooks that a third party uses: see `caraway.builtin.plugin`.
"""
