"""The smallest app there is.

In one terminal:   caraway -A tasks worker
In another:        python tasks.py
"""

from caraway import Caraway

# The module's own name: run as a program, this module is called __main__, and its tasks
# must still have the names that the worker knows.
app = Caraway("tasks")


@app.task
def add(x: int, y: int) -> int:
    """Add two numbers, somewhere else."""
    return x + y


if __name__ == "__main__":
    result = add.delay(2, 3)
    print(f"{result.id}: {result.get(timeout=10)}")
