"""``avgen recipes``: the LightningCLI files that ship with the package."""

import argparse
import shutil
import sys
from pathlib import Path

import avgen

PACKAGE = Path(avgen.__file__).parent


def folder() -> Path:
    """Where the recipes are: inside an installed wheel, or beside the package in a checkout."""
    packaged = PACKAGE / "_recipes"
    checkout = PACKAGE.parent / "recipes"
    return checkout if checkout.is_dir() else packaged


def find(name: str) -> Path:
    """A recipe by path or by name.

    Raises:
        FileNotFoundError: There is none, with the names that exist.
    """
    for candidate in (
        Path(name),
        folder() / name,
        folder() / f"{name}.yaml",
        folder() / Path(name).name,
    ):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no recipe {name!r}; use a path or one of {', '.join(names())}")


def names() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def main(argv: list[str]) -> int:
    """List, show or copy recipes."""
    parser = argparse.ArgumentParser(prog="avgen recipes", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("ls", help="names and what they are for")
    show = verbs.add_parser("show", help="print one")
    show.add_argument("name")
    copy = verbs.add_parser("copy", help="copy one to edit")
    copy.add_argument("name")
    copy.add_argument("target", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.verb == "show":
        sys.stdout.write(find(arguments.name).read_text())
    elif arguments.verb == "copy":
        if arguments.target.exists():
            raise ValueError(f"{arguments.target} exists; choose another name")
        shutil.copyfile(find(arguments.name), arguments.target)
    else:
        for name in names():
            first = find(name).read_text().partition("\n")[0]
            sys.stdout.write(f"{name:16}{first.removeprefix('# What:').strip()}\n")
    return 0
