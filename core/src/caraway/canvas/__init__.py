"""Signatures: calls as data, to be sent later or by somebody else."""

from __future__ import annotations

from caraway.canvas.signature import Signature, maybe_signature, signature

__all__ = ["Signature", "maybe_signature", "signature"]
