"""One module per task queue: its app, its tasks, and how to drive it (`bench.side.Side`).

Each is imported in an environment of its own, both by the driver and by the worker.
"""
