"""Captions of the bounce world."""

from collections.abc import Sequence
from dataclasses import dataclass

from avgen_data_prep.worlds.motion import Surface
from avgen_data_prep.worlds.wording import TEXT_LIMIT, article, listing, percent, place, sentence

NUM_STYLES = 4
FAST = 0.42
SOUNDS = {
    "rubber": ("rubber thud", "soft rubber bump", "dull rubber thump", "rubber thud"),
    "wood": ("wooden knock", "dry wooden tock", "wood knock", "wooden clack"),
    "metal": ("metal clang", "ringing metal clank", "metallic clang", "metal ring"),
    "glass": ("glass clink", "bright glass ping", "glassy clink", "glass chime"),
}
HITS = ("hits", "strikes", "bounces on", "lands on")
WALL_HITS = ("hits", "strikes", "bounces off", "knocks")
HEARD = ("{sound} of the {name}", "{sound}, {name}", "{name}: {sound}", "{sound} from the {name}")


@dataclass(frozen=True)
class BodyWords:
    """A body as captions see it: ``size colour material shape``, start and velocity."""

    look: str
    x: float
    y: float
    vx: float
    vy: float


def hit_texts(style: int, name: str, material: str, surface: Surface) -> tuple[str, str]:
    """What is seen and what is heard at a hit."""
    verb = HITS[style] if surface == "floor" else WALL_HITS[style]
    heard = HEARD[style].format(sound=SOUNDS[material][style], name=name)
    return f"{name} {verb} the {surface}", heard


def drift(body: BodyWords, brief: bool) -> str:
    """How a body sets off: sideways and up or down."""
    side = "" if body.vx == 0 else " right" if body.vx > 0 else " left"
    if brief:
        return "up" + side if body.vy < -0.15 else "down" + side
    pace = " fast" if abs(body.vx) > FAST else ""
    if body.vy < -0.15:
        return f"tossed up{pace}{side}"
    if body.vy > 0.15:
        return f"thrown down{pace}{side}"
    return f"falling{pace}{side}" if side else "falling straight"


def scene_text(style: int, bodies: Sequence[BodyWords], background: str, floor: str) -> str:
    """The global description, in fewer words where it would pass `TEXT_LIMIT` bytes."""
    text = compose(style, bodies, background, floor, brief=False)
    if len(text) <= TEXT_LIMIT:
        return text
    return compose(style, bodies, background, floor, brief=True)


def compose(
    style: int, bodies: Sequence[BodyWords], background: str, floor: str, *, brief: bool
) -> str:
    """The global description in one of `NUM_STYLES` wordings."""
    rows = [(b.look, percent(b.x, b.y), place(b.x, b.y), drift(b, brief)) for b in bodies]
    if style == 0:
        items = [f"{article(look)} at {spot} {way}" for look, spot, _, way in rows]
        return sentence(f"{listing(items)}; {floor} floor, {background} background")
    if style == 1:
        items = [f"{look} from the {corner}, {way}" for look, _, corner, way in rows]
        return sentence(f"{background} room with {article(f'{floor} floor')}: {'; '.join(items)}")
    if style == 2:
        items = [f"{look} ({spot}, {way})" for look, spot, _, way in rows]
        return sentence(f"on {article(f'{floor} floor')} before {background}: {listing(items)}")
    items = [f"{article(look)}, {corner}, {way}" for look, _, corner, way in rows]
    ending = f"{floor.capitalize()} floor and walls, {background} behind"
    return sentence(f"{'; '.join(items)}. {ending}")
