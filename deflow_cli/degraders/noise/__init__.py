"""Noise that is estimated without a network, and added to pictures."""
