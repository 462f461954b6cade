"""A seeded physical phantom of axial, fat-suppressed, post-contrast breast MRI slices.

Read it in this order: ``draws`` (random streams), ``anatomy`` (what a patient is), ``texture``, ``geometry`` (outlines),
``tissue`` and ``focal`` (masks of organs and of findings), ``scanner`` (the spoiled-gradient-echo signal, coils, noise),
``render`` (all of it to pixels), ``cohort`` (which slices of which patients), ``workers`` (several processes).
"""
