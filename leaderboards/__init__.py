"""Versioned leaderboards. Installed as ``robustbench_spur.leaderboards``, read only."""
