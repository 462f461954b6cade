"""A seeded physical phantom of axial, fat-suppressed, post-contrast breast MRI slices.

Read it in this order: ``draws`` (random streams), ``anatomy`` (what a patient is), ``texture``, ``tissue`` (geometry to
masks), ``scanner`` (the spoiled-gradient-echo signal, coils, noise), ``render`` (all of it to pixels), ``cohort``
(which slices of which patients), ``workers`` (several processes).
"""
