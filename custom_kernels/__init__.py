"""Kernels for the UNets. A leaf: torch and triton only."""
