"""Kernels for the UNets, and the table that chooses between them. A leaf: torch and triton only.

`custom_kernels.ops` has the operations, `reference.py` says what each computes, `dispatch.py` chooses who computes it.
"""
