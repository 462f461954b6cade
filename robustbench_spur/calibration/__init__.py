"""Confidence held against accuracy: bins, gaps, parts of a score, diagrams, and maps that repair."""
