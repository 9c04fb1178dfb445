"""Fused twins of the reference operations in Triton; imported only where Triton is installed."""
