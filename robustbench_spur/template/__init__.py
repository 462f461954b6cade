"""What ``spurbench new`` writes: working files in which ``my_idea`` and ``MyIdea`` stand for the name that was asked for.

They are Python and not templates of a template language, so that the project's own linter, type checker and tests read them.
Lines with a name in them are short enough for the longest name.
"""
