"""Finding shortcuts in a collection, and making splits from it: scan, split, render."""
