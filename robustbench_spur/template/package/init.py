"""A method for robustbench-spur, found by the entry point in ``pyproject.toml``."""
