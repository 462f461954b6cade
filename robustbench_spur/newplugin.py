"""Writes the files from which a method of one's own starts: one file with its test, or a whole distribution.

What is written is the content of the folder ``template`` with the name in place of ``my_idea``.
"""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import re
import sys
from pathlib import Path

from robustbench_spur.registry import FOLDERS, PACKAGE, Plugin, Registry
from robustbench_spur.stated import NAME
from robustbench_spur.types import SpurbenchError

TEMPLATE = Path(__file__).parent / "template"
LONGEST = 40
"""Letters of a name at most: no line that holds it then grows too long."""
TAKEN = ("all", "training")
"""Words that mean something else where a name is asked for."""
DRAFT = {"my_idea.py": "my_idea.py", "test_my_idea.py": "test_my_idea.py", "README.md": "README.md"}
"""Files of a method that stands alone: place, and the template's file."""
DISTRIBUTION = {
    "pyproject.toml": "package/project.toml",
    "README.md": "package/README.md",
    "src/my_idea/__init__.py": "package/init.py",
    "src/my_idea/my_idea.py": "my_idea.py",
    "tests/test_my_idea.py": "test_my_idea.py",
}
"""Files of a distribution: place, and the template's file; none is called ``pyproject.toml`` there, which tools would obey."""


def write_method(name: str, folder: Path, *, package: bool = False) -> list[Path]:
    """Write the files of a new method into a folder of its name.

    Args:
        name: of the method.
        folder: where the new folder goes; made if need be.
        package: write a distribution with an entry point, in place of a file that stands alone.

    Returns:
        The files, in the order in which a reader wants them.

    Raises:
        SpurbenchError: a name that cannot be one or is taken, or a file that is there already. Then nothing is written.
    """
    check_name(name, Registry())
    files = {folder / name / place: text for place, text in method_files(name, package=package).items()}
    for path in files:
        if path.is_symlink() or path.exists():
            raise SpurbenchError(
                f"Expected no file at {path}, found one, and nothing is overwritten. Move it, or give --out."
            )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(files)


def method_files(name: str, *, package: bool = False) -> dict[str, str]:
    """The texts of a new method's files, by their place in its folder.

    Args:
        name: of the method, one that :func:`check_name` lets pass.
        package: those of a distribution.
    """
    return {
        place.replace("my_idea", name): _named((TEMPLATE / source).read_text(encoding="utf-8"), name)
        for place, source in (DISTRIBUTION if package else DRAFT).items()
    }


def check_name(name: str, registry: Registry) -> None:
    """Refuse a name that a new method cannot have.

    Args:
        name: as it was given.
        registry: of the plugins whose names are taken, whatever their kind: ``describe`` is asked for names alone.

    Raises:
        SpurbenchError: which rule it breaks, or who has it.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise SpurbenchError(
            f"Expected a name of a to z, 0 to 9 and underscores, a letter first, {LONGEST} characters at most, found {name!r}."
            " Write one such as my_idea."
        )
    if keyword.iskeyword(name):
        raise SpurbenchError(f"Expected a name that is no word of Python's own, found {name!r}. Choose another.")
    if name in TAKEN:
        raise SpurbenchError(f"Expected a name of its own, found {name!r}, which has a meaning here. Choose another.")
    for kind in FOLDERS:
        for plugin in registry.entries(kind):
            if name in (plugin.name, *plugin.literal("splits", ()), *plugin.literal("aliases", ())):
                raise SpurbenchError(
                    f"Expected a name that is free, found {name!r}: {_holder(plugin, name)} has it, {plugin.where}"
                    f" ({plugin.origin}). Choose another."
                )
    if place := _module(name):
        raise SpurbenchError(
            f"Expected a name that is free, found {name!r}: a module of Python has it ({place}), and a file {name}.py would"
            " hide it. Choose another."
        )


def class_name(name: str) -> str:
    """What the class of a method is called: its name in capitals, and never a word of Python or of the package.

    >>> class_name("my_idea"), class_name("none"), class_name("batch")
    ('MyIdea', 'NoneMethod', 'BatchMethod')
    """
    words = "".join(word.capitalize() for word in name.split("_"))
    return f"{words}Method" if keyword.iskeyword(words) or words in importlib.import_module(PACKAGE).__all__ else words


def _named(text: str, name: str) -> str:
    """A template with the name in its three spellings: of files, of the class, of the distribution."""
    dashed = re.sub("_+", "-", name.strip("_"))
    return text.replace("my_idea", name).replace("MyIdea", class_name(name)).replace("my-idea", dashed)


def _holder(plugin: Plugin, name: str) -> str:
    """What has a name, in words."""
    if name != plugin.name:
        return f"a split of {plugin.name}"
    return f"an {plugin.kind}" if plugin.kind[0] in "aeiou" else f"a {plugin.kind}"


def _module(name: str) -> str:
    """Where the module of a name is, empty where there is none; a mere folder on the path does not count."""
    if name in sys.stdlib_module_names:
        return "the standard library"
    spec = importlib.util.find_spec(name)
    return str(spec.origin) if spec is not None and spec.origin else ""
