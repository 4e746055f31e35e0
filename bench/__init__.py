"""Speed and size of Caraway, against bare loops and against other task queues.

Run with ``make bench`` or ``python -m bench``; what is measured and how to read it stands
in ``docs/explanation/benchmarks.md``.  Nothing here is collected by the tests.
"""
