"""MessagePack for Caraway."""
