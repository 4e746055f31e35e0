"""The plugin is found, and looking at it imports nothing heavy."""

import subprocess
import sys

from caraway.plugins.registry import Registry


def test_the_plugin_is_active_and_offers_its_component():
    found = {plugin.name: plugin for plugin in Registry.discover().plugins()}
    assert found["shelf"].state == "active", found["shelf"].reason
    assert "shelf" in {entry.name for entry in found["shelf"].entries["{{kind}}"]}


def test_looking_at_the_plugin_does_not_import_the_component():
    code = "import sys, caraway_shelf.plugin; sys.exit('caraway_shelf.{{kind}}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
