"""Seeding: generators that depend on what they are for, never on what ran before."""

from __future__ import annotations

import hashlib

import torch

from deflow_cli.texts import encoded


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from a seed and what it is for, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(encoded(text), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by ``derived_seed``."""
    return torch.Generator(device).manual_seed(derived_seed(*parts))
