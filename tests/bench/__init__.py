"""Benchmarks: they print numbers and, with --check, fail when a promised bound does not hold."""
