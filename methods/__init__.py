"""Mitigation methods, one file each. Installed as ``robustbench_spur.methods``."""
