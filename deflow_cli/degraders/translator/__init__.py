"""The trained networks that give one answer for each picture, as degraders."""
