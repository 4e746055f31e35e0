"""Failover between several brokers: a transport that wraps others.

The first broker that can be reached serves; when it can't be reached any more, the next
one does.  A message lives in one broker only: what was in the one that went away is
delivered when it is back and used again.
"""

from __future__ import annotations
