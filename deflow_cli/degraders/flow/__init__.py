"""Degradation by a fitted flow: encode the clean picture, shift its latents, decode."""
