"""A method and an evaluator for robustbench-spur, found by the entry points in ``pyproject.toml``."""
