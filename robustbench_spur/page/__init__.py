"""The board as one self-contained page: it works offline and without JavaScript, and asks for nothing from anywhere.

A page is made in three steps that can grow apart: views (what is said, as texts and numbers), charts (plain geometry),
and templates (how it looks). Names come from other people's plugins and are hostile until escaped, which the templates
do for every text; a content security policy stands behind that. The same board gives the same bytes.
"""

from robustbench_spur.page.render import render_page, write_page
from robustbench_spur.page.site import write_site

__all__ = ["render_page", "write_page", "write_site"]
