"""The order of the house: a room imports the rooms above it, never those below."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = [
    {"clock"}, {"caption"}, {"caption_formats", "clip", "flow", "tasks", "checkpoint"}, {"ops"}, {"media"}, {"measure"},
    {"codecs", "text"}, {"data"}, {"model"}, {"sampling"}, {"objective"}, {"training"}, {"pipeline"}, {"live"}, {"cli"},
]  # fmt: skip
LEVEL = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}
# Reading and writing are methods of the clip, and captions of the caption; these imports happen inside the methods.
EXCEPTIONS = {("clip", "media"), ("caption", "caption_formats")}
BESIDE = {"avgen_data_prep": "avgen_eval", "avgen_eval": "avgen_data_prep"}


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_rooms_import_upwards_only():
    wrong = []
    for path in (ROOT / "avgen").rglob("*.py"):
        room = path.relative_to(ROOT / "avgen").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] in BESIDE:
                wrong.append(f"{path}:{line}: avgen imports {parts[0]}")
            if parts[0] != "avgen" or len(parts) < 2 or parts[1] not in LEVEL or parts[1] == room:
                continue
            if LEVEL[parts[1]] >= LEVEL[room] and (room, parts[1]) not in EXCEPTIONS:
                wrong.append(f"{path}:{line}: {room} imports {parts[1]}")
    assert wrong == []


def test_every_room_has_its_place():
    names = {
        p.name.removesuffix(".py")
        for p in (ROOT / "avgen").iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert names - {"__init__"} <= set(LEVEL)


def test_the_packages_beside_do_not_import_each_other():
    for folder, package in (("data_prep", "avgen_data_prep"), ("eval", "avgen_eval")):
        for path in (ROOT / folder / package).rglob("*.py"):
            assert not [name for _, name in imports(path) if name.startswith(BESIDE[package])], path


def test_xformers_is_imported_in_one_file():
    users = [
        p.name
        for p in (ROOT / "avgen").rglob("*.py")
        if any(n.startswith("xformers") for _, n in imports(p))
    ]
    assert users == ["xformers_attention.py"]


def test_importing_avgen_loads_no_heavy_library():
    code = "import avgen, avgen.cli, sys; print([m for m in ('torch', 'numpy', 'av', 'lightning') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_resolve():
    import avgen

    assert {getattr(avgen, name) is not None for name in avgen.__all__} == {True}
