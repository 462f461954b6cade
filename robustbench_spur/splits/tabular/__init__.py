"""What ``table`` and ``injected`` are made of: from somebody's files to rows of one kind, and from those to codes."""
