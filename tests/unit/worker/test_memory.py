"""Memory of processes."""

from __future__ import annotations

import os
import sys

import pytest

from caraway.worker import memory

MIB = 1024 * 1024


def test_this_process_has_some_megabytes():
    assert 5 * MIB < memory.resident() < 10_000 * MIB
    assert memory.resident(os.getpid()) > 5 * MIB


def test_what_is_allocated_is_seen():
    before = memory.resident()
    block = bytearray(64 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    assert memory.resident() - before > 48 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="PSS is Linux'")
def test_the_proportional_size_is_not_larger_than_the_resident_one():
    assert 0 < memory.proportional() <= memory.resident() * 1.1


def test_a_process_that_does_not_exist_has_none():
    assert memory.resident(2**22 + 1) == 0
    assert memory.proportional(2**22 + 1) == 0
