"""Any kombu transport as a broker of Caraway."""
