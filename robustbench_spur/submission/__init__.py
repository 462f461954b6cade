"""Entries of published boards: packed from a home, read as if a stranger had made them, verified, and made into a board."""
