"""The measurements: one file per evaluator, each a plugin."""
