"""Tuning without cheating: settings are searched on validation, and the test set is read once, after the choice."""
