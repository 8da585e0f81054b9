"""The shapes of the drawn dataset: lists of parts in a square of 1,000 units, y down, (0, 0) in the center."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from cocoseg.download.sample.rng import Rng

Point: TypeAlias = tuple[int, int]
Part: TypeAlias = tuple[int, list[Point]]
"""A tone (1, 2 or 3) and the polygon that it fills; later parts cover earlier ones."""
Shape: TypeAlias = Callable[[Rng], list[Part]]

STEPS = 64
"""Steps of a full turn, the unit of every angle here."""
ONE = 4096
"""What `sine` and `cosine` return for 1."""
# No fraction is within 0.02 of a half, so every machine's sine rounds to the same integers.
_SINES = [round(ONE * math.sin(2 * math.pi * angle / STEPS)) for angle in range(STEPS)]


def sine(angle: int) -> int:
    """Return the sine of `angle` 64ths of a turn, times 4096."""
    return _SINES[angle % STEPS]


def cosine(angle: int) -> int:
    """Return the cosine of `angle` 64ths of a turn, times 4096."""
    return sine(angle + STEPS // 4)


_CIRCLE = [(cosine(angle), sine(angle)) for angle in range(STEPS)]


def person(rng: Rng) -> list[Part]:
    """Return a head, a torso, two arms and two legs in one of many poses."""
    lean = rng.between(-35, 35)
    shoulder, hip = (lean, -235), (0, 90)
    parts: list[Part] = []
    for side in (-1, 1):
        knee = _polar((hip[0] + 45 * side, hip[1]), 190, 16 - side * rng.between(0, 7))
        foot = _polar(knee, 195, 16 + rng.between(-2, 5))
        parts += [(3, bar((hip[0] + 40 * side, hip[1]), knee, 62)), (3, bar(knee, foot, 54))]
        parts.append((1, bar(foot, (foot[0] + 55, foot[1] + 4), 38)))
    for side in (-1, 1):
        start = (shoulder[0] + 105 * side, shoulder[1] + 30)
        elbow = _polar(start, 150, 16 - side * rng.between(2, 20))
        hand = _polar(elbow, 145, 16 - side * rng.between(-2, 26))
        parts += [(1, bar(start, elbow, 52)), (2, bar(elbow, hand, 42))]
    left, right = shoulder[0] - 135, shoulder[0] + 135
    torso = [(left, -205), (left + 45, -260), (right - 45, -260), (right, -205), (100, 140), (-100, 140)]
    parts.append((1, torso))
    head = (lean + lean // 2, -375)
    parts += [(2, bar((lean, -270), head, 42)), (2, disc(head, 116))]
    if rng.one_in(2):
        parts.append((3, half_disc((head[0], head[1] - 15), 124)))
    return parts


def bicycle(rng: Rng) -> list[Part]:
    """Return two thin wheels far apart and a frame of tubes."""
    radius = rng.between(205, 235)
    reach = rng.between(255, 285)
    rear, front, pedals = (-reach, 190), (reach, 190), (-30, 200)
    seat = (-105, -120 - rng.between(0, 40))
    head = (reach - 95, -150)
    parts: list[Part] = []
    turn = rng.between(0, 7)
    for hub in (rear, front):
        parts += [(3, disc(hub, radius)), (2, disc(hub, radius - 40))]
        for angle in range(turn, turn + 32, 8):
            parts.append((3, bar(_polar(hub, radius - 30, angle), _polar(hub, radius - 30, angle + 32), 7)))
    tubes = [(rear, pedals), (rear, seat), (pedals, seat), (pedals, head), (seat, head), (head, front)]
    parts += [(1, bar(start, end, 26)) for start, end in tubes]
    parts.append((3, bar((seat[0] - 75, seat[1] - 55), (seat[0] + 65, seat[1] - 55), 33)))
    parts.append((1, bar(seat, (seat[0] - 12, seat[1] - 45), 22)))
    grip = (head[0] + rng.between(30, 110), head[1] - rng.between(85, 130))
    parts += [(1, bar(head, (head[0] - 25, head[1] - 90), 22)), (3, bar((head[0] - 25, head[1] - 95), grip, 24))]
    parts += [(3, disc(pedals, 58)), (2, disc(pedals, 24))]
    return parts


def car(rng: Rng) -> list[Part]:
    """Return a long low body, a cabin with windows and two small wheels."""
    roof = -rng.between(165, 270)
    back = rng.between(-400, -240)
    front = rng.between(90, 260)
    parts: list[Part] = []
    cabin = [(back - 60, -10), (back + 40, roof), (front - 90, roof), (front + 80, -10)]
    parts.append((1, cabin))
    middle = (back + front) // 2
    top = roof + 45
    parts.append((2, [(back + 15, -15), (back + 65, top), (middle - 20, top), (middle - 20, -15)]))
    parts.append((2, [(middle + 25, -15), (middle + 25, top), (front - 105, top), (front + 5, -15)]))
    nose = rng.between(0, 40)
    body = [
        (-495, 20),
        (-460, -35),
        (300, -35),
        (450, nose),
        (495, nose + 50),
        (495, 165),
        (470, 190),
        (-475, 190),
        (-495, 150),
    ]
    parts.append((1, body))
    parts.append((3, [(-495, 95), (495, 95), (495, 130), (-495, 130)]))
    parts += [(2, disc((455, nose + 75), 34)), (3, bar((-480, 45), (-450, 45), 24))]
    for axle in ((-285, 190), (285, 190)):
        parts += [(3, disc(axle, 118)), (2, disc(axle, 52))]
    return parts


def motorcycle(rng: Rng) -> list[Part]:
    """Return two fat wheels close together and a heavy body between and above them."""
    radius = rng.between(168, 190)
    rear, front = (-290, 200), (300, 200)
    parts: list[Part] = []
    parts += [(2, bar((180, -190), front, 36)), (1, half_disc((rear[0], rear[1] - 55), radius))]
    for hub in (rear, front):
        parts += [(3, disc(hub, radius)), (2, disc(hub, radius // 2)), (3, disc(hub, 28))]
    engine = [(-190, -40), (150, -70), (210, 90), (110, 230), (-120, 230), (-230, 110)]
    parts += [(2, engine), (3, disc((10, 110), 85)), (1, bar((-70, 215), (-430, 185), 34))]
    height = rng.between(200, 250)
    tank = [(-90, -60), (-70, -height + 30), (40, -height), (170, -height + 40), (200, -90), (120, -30)]
    saddle = [(-430, -110), (-440, -190), (-330, -150), (-80, -140), (-60, -40), (-330, -20)]
    parts += [(3, saddle), (1, tank)]
    if rng.one_in(2):
        parts.append((1, [(150, -120), (190, -330), (260, -300), (330, -60), (250, 0)]))
    parts += [(3, bar((165, -200), (120, -330), 30)), (2, bar((120, -330), (20, -310), 30)), (2, disc((262, -170), 62))]
    return parts


def airplane(rng: Rng) -> list[Part]:
    """Return a fuselage, two wings and a tail, seen from above."""
    sweep = rng.between(-20, 200)
    root, tip = rng.between(115, 150), rng.between(60, 95)
    wing = [(0, -root), (490, sweep - tip), (490, sweep + tip), (0, root)]
    parts: list[Part] = [(1, [(x * side, y - 60) for x, y in wing]) for side in (-1, 1)]
    engine = rng.between(180, 270)
    if rng.one_in(2):
        y = sweep * engine // 490 - 170
        parts += [(3, bar((engine * side, y), (engine * side, y + 90), 42)) for side in (-1, 1)]
    tail = rng.between(160, 210)
    parts += [(3, [(0, 310), (0, 430), (tail * side, 480), (tail * side, 395)]) for side in (-1, 1)]
    right = [(48, -465), (76, -400), (84, -300), (84, 120), (36, 450)]
    parts.append((2, [(0, -495), *right, (0, 480), *((-x, y) for x, y in reversed(right))]))
    parts += [(3, [(-54, -400), (54, -400), (64, -335), (-64, -335)]), (1, bar((0, 290), (0, 470), 20))]
    parts.append((1, bar((0, -220), (0, 180), 18)))
    return parts


def dog(rng: Rng) -> list[Part]:
    """Return a body on four legs, a head with an ear, and a tail."""
    parts: list[Part] = []
    for x in (-260, -170, 130, 220):
        paw = x + rng.between(-60, 60)
        parts += [(1, bar((x, 60), (paw, 330), 45)), (2, bar((paw, 335), (paw + 35, 335), 35))]
    tail = _polar((-300, -20), 250, 32 + rng.between(2, 14))
    parts += [(1, bar((-290, 0), tail, 32)), (1, bar((-220, 30), (170, 20), 125))]
    head = (330, -190 + rng.between(-40, 60))
    parts += [(1, bar((200, -20), head, 80)), (1, disc(head, 115)), (1, bar(head, (head[0] + 130, head[1] + 30), 55))]
    parts += [
        (3, bar((head[0] - 45, head[1] - 70), (head[0] - 75, head[1] + 75), 42)),
        (3, disc((head[0] + 165, head[1] + 15), 26)),
    ]
    parts.append((2, bar((170, -75), (260, 20), 26)))
    return parts


def traffic_light(rng: Rng) -> list[Part]:
    """Return three lamps in a box on a pole."""
    parts: list[Part] = [(3, bar((0, 0), (0, 470), 34)), (3, bar((-90, 475), (90, 475), 26))]
    parts.append(
        (1, [(-150, -460), (-120, -490), (120, -490), (150, -460), (150, 110), (120, 140), (-120, 140), (-150, 110)])
    )
    lit = rng.between(0, 2)
    parts += [(2 if lamp == lit else 3, disc((0, -385 + 205 * lamp), 82)) for lamp in range(3)]
    return parts


def pebble(rng: Rng) -> list[Part]:
    """Return an uneven round stone with a lighter patch."""
    outline = [_polar((0, 0), 360 + rng.between(-90, 120), angle) for angle in range(0, STEPS, 4)]
    return [(1, outline), (2, [(x * 2 // 5 - 90, y * 2 // 5 - 90) for x, y in outline])]


def leaf(rng: Rng) -> list[Part]:
    """Return a lens with a midrib."""
    width = rng.between(130, 240)
    upper = [(x, -width * (450 * 450 - x * x) // (450 * 450)) for x in range(-450, 451, 90)]
    return [(1, upper + [(x, -y) for x, y in reversed(upper)]), (3, bar((-490, 0), (380, 0), 18))]


def crate(rng: Rng) -> list[Part]:
    """Return a box with one or two planks across."""
    half = rng.between(220, 430)
    parts: list[Part] = [(1, [(-450, -half), (450, -half), (450, half), (-450, half)])]
    parts.append((3, bar((-380, -half + 70), (380, half - 70), 32)))
    if rng.one_in(2):
        parts.append((3, bar((-380, half - 70), (380, -half + 70), 32)))
    return parts


def wheel(rng: Rng) -> list[Part]:
    """Return a single wheel or ring: a wheel alone is no vehicle."""
    return [(1, disc((0, 0), 420)), (2, disc((0, 0), rng.between(200, 350))), (3, disc((0, 0), 80))]


def post(rng: Rng) -> list[Part]:
    """Return a long pole with a knob."""
    width = rng.between(28, 55)
    return [(1, bar((0, -430), (0, 480), width)), (3, disc((0, -440), width + 25)), (2, bar((0, 60), (0, 130), width))]


def house(rng: Rng) -> list[Part]:
    """Return walls, a roof, a door and a window."""
    half = rng.between(260, 400)
    roof = [(-half - 80, -60), (0, -450), (half + 80, -60)]
    walls = [(-half, -80), (half, -80), (half, 430), (-half, 430)]
    door = [(-half // 2 - 70, 130), (-half // 2 + 70, 130), (-half // 2 + 70, 430), (-half // 2 - 70, 430)]
    window = [(half // 2 - 85, 60), (half // 2 + 85, 60), (half // 2 + 85, 230), (half // 2 - 85, 230)]
    return [(1, walls), (3, roof), (2, door), (2, window)]


def tree(rng: Rng) -> list[Part]:
    """Return a trunk with a crown, or with the three tiers of a fir."""
    parts: list[Part] = [(3, bar((0, 80), (0, 460), rng.between(38, 62)))]
    if rng.one_in(2):
        crown = rng.between(190, 250)
        return [
            *parts,
            (1, disc((-120, -60), crown)),
            (1, disc((130, -90), crown)),
            (1, disc((0, -240), crown)),
            (2, disc((-60, -200), 70)),
        ]
    for tier in range(3):
        y, half = 230 - 210 * tier, 330 - 70 * tier
        parts.append((1 if tier % 2 == 0 else 2, [(-half, y), (0, y - 330), (half, y)]))
    return parts


def flower(rng: Rng) -> list[Part]:
    """Return petals around a center."""
    petals = rng.between(5, 8)
    parts: list[Part] = [(1, disc(_polar((0, 0), 280, STEPS * petal // petals), 165)) for petal in range(petals)]
    return [*parts, (2, disc((0, 0), 190)), (3, disc((0, 0), 90))]


def disc(center: Point, radius: int) -> list[Point]:
    """Return a circle as a polygon of 32 corners."""
    return _arc(center, radius, _CIRCLE[::2])


def half_disc(center: Point, radius: int) -> list[Point]:
    """Return the upper half of a circle."""
    return _arc(center, radius, [*_CIRCLE[STEPS // 2 :: 2], _CIRCLE[0]])


def bar(start: Point, end: Point, half_width: int) -> list[Point]:
    """Return a stroke of width `2 * half_width` with rounded ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(1, math.isqrt(dx * dx + dy * dy))
    ux, uy = dx * half_width // length, dy * half_width // length
    cap = ((0, 10), (5, 9), (9, 5), (10, 0), (9, -5), (5, -9), (0, -10))  # a half turn in tenths of the half width
    head = [(end[0] + (ux * a - uy * b) // 10, end[1] + (uy * a + ux * b) // 10) for a, b in cap]
    return head + [(start[0] - (ux * a - uy * b) // 10, start[1] - (uy * a + ux * b) // 10) for a, b in cap]


def _polar(center: Point, radius: int, angle: int) -> Point:
    c, s = _CIRCLE[angle % STEPS]
    return center[0] + radius * c // ONE, center[1] + radius * s // ONE


def _arc(center: Point, radius: int, directions: Sequence[Point]) -> list[Point]:
    x, y = center
    return [(x + radius * c // ONE, y + radius * s // ONE) for c, s in directions]
