"""shelf for Caraway."""
