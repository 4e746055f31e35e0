from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from caraway.builtin.sqlite.queues import runs


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from("ghk")), unique_by=lambda p: p[0]),
)
def test_ranges_cover_exactly_what_is_to_go(rows: list[tuple[int, str]]) -> None:
    held = sorted(key for key, _ in rows)
    gone = {key for key, fate in rows if fate == "g"}
    settled = gone | {key for key, fate in rows if fate == "k"}
    held_runs, message_runs = runs(held, gone, settled)
    assert {key for key in held if any(a <= key <= b for a, b in held_runs)} == settled
    # Ids that we don't hold are others': no range may touch them.
    assert [key for a, b in message_runs for key in range(a, b + 1)] == sorted(gone)
