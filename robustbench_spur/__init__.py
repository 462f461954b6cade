"""Benchmark of shortcut learning in medical imaging."""
