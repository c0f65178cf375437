"""Draws the rooms of `certvae` and who imports whom, from the code: `python -m tests.rooms` writes `certvae/rooms.svg`
and prints the figures of the house.

A room is a package, or a file at the top of `certvae`. Arrows are imports that run (those for type checkers are left
out) and point down. Dark ones decide the floors; pale ones lead to a room that a dark path reaches as well.
"""

import functools
from collections.abc import Mapping
from html import escape
from pathlib import Path

from tests.test_architecture import ARRAYS, FLOORS, PACKAGES, ROOT, module_of, ours, room_of, sources, third_party

PICTURE = ROOT / "certvae" / "rooms.svg"
WIDTH, STEP, BOX, TALL, MARGIN = 1000, 92, (150, 46), 23, 50
SWEEPS = 8  # over all floors, to order the boxes of each
Edges = dict[str, set[str]]
Places = dict[str, tuple[float, float]]


def edges() -> Edges:
    """Room -> the rooms that it imports."""
    found: Edges = {room: set() for rooms in FLOORS for room in rooms}
    for path in sources("certvae"):
        if here := room_of(module_of(path)):
            found[here] |= {room_of(name) for name in ours(path, for_types=False)} & found.keys() - {here}
    return found


def libraries() -> dict[str, list[str]]:
    """Room -> what it imports besides numpy, jaxtyping and the standard library."""
    found: dict[str, set[str]] = {room: set() for rooms in FLOORS for room in rooms}
    for path in sources("certvae"):
        if here := room_of(module_of(path)):
            found[here] |= third_party(path) - ARRAYS
    return {room: sorted(names) for room, names in found.items()}


def reached(graph: Mapping[str, set[str]], room: str) -> set[str]:
    """All rooms below, by any path."""
    return graph[room] | {far for near in graph[room] for far in reached(graph, near)}


def is_direct(graph: Mapping[str, set[str]], upper: str, lower: str) -> bool:
    """No other room of `upper` leads to `lower`."""
    return not any(lower in reached(graph, other) for other in graph[upper] - {lower})


def ordered(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Floors from the ground up, each from left to right: a room stands near the middle of its neighbours."""
    floors = [sorted(rooms) for rooms in FLOORS]
    near = {room: graph[room] | {other for other in graph if room in graph[other]} for room in graph}
    for _ in range(SWEEPS):
        places = _placed(floors)
        middle = {room: sum(places[one][0] for one in near[room]) / max(1, len(near[room])) for room in graph}
        floors = [sorted(rooms, key=lambda room: (middle[room], room)) for rooms in floors]
    return floors


def _placed(floors: list[list[str]]) -> Places:
    """Room -> centre of its box."""
    height = MARGIN + STEP * (len(floors) - 1)
    return {
        room: (30 + (WIDTH - 40) * (number + 0.5) / len(rooms), height - STEP * floor)
        for floor, rooms in enumerate(floors)
        for number, room in enumerate(rooms)
    }


def picture() -> str:
    """The SVG; the same code gives the same text."""
    graph = edges()
    floors = ordered(graph)
    places, names = _placed(floors), libraries()
    height = 2 * MARGIN + STEP * (len(floors) - 1)
    arrows = [
        (upper, lower, is_direct(graph, upper, lower)) for upper in sorted(graph) for lower in sorted(graph[upper])
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        "<title>Rooms of certvae: imports point down</title>",
        *(f"<!-- {room}: {' '.join(sorted(graph[room])) or 'nothing of ours'} -->" for room in sorted(graph)),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *(_floor(number, height) for number in range(len(floors))),
        *(_arrow(places[upper], places[lower], direct) for upper, lower, direct in sorted(arrows, key=lambda a: a[2])),
        *(_box(room, place, names[room]) for room, place in sorted(places.items())),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _floor(number: int, height: int) -> str:
    y = height - MARGIN - STEP * number
    return (
        f'<rect x="30" y="{y - STEP / 2 + 4:g}" width="{WIDTH - 40}" height="{STEP - 8}" rx="6" fill="#f3f5f7"/>'
        f'<text x="16" y="{y + 5}" font-size="15" text-anchor="middle" fill="#666666">{number + 1}</text>'
    )


def _arrow(upper: tuple[float, float], lower: tuple[float, float], direct: bool) -> str:
    (x, y), (to_x, to_y) = upper, lower
    y, to_y = y + TALL, to_y - TALL
    colour, width = ("#0072b2", 1.6) if direct else ("#9aa5b1", 0.7)
    bend = (to_y - y) / 2
    curve = f"M{x:.0f} {y:.0f}C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y:.0f}"
    head = f"M{to_x - 3:.0f} {to_y - 6:.0f}L{to_x:.0f} {to_y:.0f}L{to_x + 3:.0f} {to_y - 6:.0f}"
    return f'<path d="{curve}{head}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _box(room: str, place: tuple[float, float], names: list[str]) -> str:
    (x, y), (wide, tall) = place, BOX
    below = ", ".join(names)
    shift = -3 if below else 5
    text = f'<text x="{x:.0f}" y="{y + shift:.0f}" font-size="15" text-anchor="middle">{escape(room)}</text>'
    if below:
        small = 'font-size="9.5" text-anchor="middle" fill="#555555"'
        text += f'<text x="{x:.0f}" y="{y + 14:.0f}" {small}>{escape(below)}</text>'
    frame = f'<rect x="{x - wide / 2:.0f}" y="{y - tall / 2:.0f}" width="{wide}" height="{tall}" rx="5"'
    return f'{frame} fill="#ffffff" stroke="#333333"/>{text}'


def longest_chain() -> list[str]:
    """The longest path of imports that run, module by module, from the top down."""
    known = {module_of(path): path for path in sources(*PACKAGES)}

    @functools.cache
    def below(module: str) -> tuple[str, ...]:
        imports = ours(known[module], for_types=False) & known.keys() - {module}
        return (module, *max(map(below, sorted(imports)), key=len, default=()))

    return list(max(map(below, sorted(known)), key=len))


def figures() -> dict[str, int]:
    """What a plan of the house is judged by."""
    graph, product, proof = edges(), sources(*PACKAGES), sources("tests")
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return {
        "floors": len(FLOORS),
        "rooms": len(graph),
        "arrows between rooms": sum(map(len, graph.values())),
        "arrows up": sum(floor[lower] >= floor[upper] for upper, lowers in graph.items() for lower in lowers),
        "files of product": len(product),
        "lines of product": sum(len(path.read_text().splitlines()) for path in product),
        "lines of tests": sum(len(path.read_text().splitlines()) for path in proof),
        "longest chain of imports": len(longest_chain()),
    }


def main(path: Path = PICTURE) -> None:
    """Writes the picture and prints the figures."""
    path.write_text(picture())
    for name, value in figures().items():
        print(f"{value:7,} {name}")


if __name__ == "__main__":
    main()
