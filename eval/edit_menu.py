"""The kinds of edits by name, at any strength, and edits drawn so that they go well together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from eval.edit_base import ClipPart, Edit, Strength
from eval.edit_cameras import filmed_screen, rotate, slow_zoom
from eval.edit_layouts import (
    Side,
    borders,
    captioned_bands,
    picture_in_picture,
    reaction,
    reaction_split,
    vertical_blur,
    vertical_crop,
)
from eval.edit_pictures import (
    blur,
    colour,
    crop,
    grey_noise,
    logo_and_subtitles,
    low_resolution,
    mirror,
    mirror_and_crop,
    reencode,
    stickers,
)
from eval.edit_sounds import mute, replace_sound
from eval.edit_times import Insert, decimate, drop_frames, fades, freeze, intro, outro, reverse, speed
from eval.video_reader import read_shape

Rng = np.random.Generator
Draw = Callable[[Rng, float, Sequence[Path]], Edit]

Family = Literal[
    "speed", "clock", "colour", "focus", "framing", "camera", "layout", "stickers", "words",
    "transition", "insert", "sound", "screen", "upload",
]  # fmt: skip

#: Of a family at most one edit is drawn, and the families stand in the order in which uploaders work: first
#: what is done to the scene, then what is laid around and over it, last what happens to the finished clip.
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True)
class EditKind:
    """One kind of edit.

    Attributes:
        name: In kebab-case.
        level: How much of a burden it is on matching at any strength.
        draw: From a source of randomness, a strength in [0, 1] and videos that may be shown behind, beside
            or before the clip, to an edit.
        family: Kinds that should not be met twice in one clip share it.
    """

    name: str
    level: Strength
    draw: Draw
    family: Family


def _from_to(strength: float, weak: float, strong: float) -> float:
    return weak + (strong - weak) * strength


def _sign(rng: Rng) -> int:
    return int(rng.choice([-1, 1]))


def _spot(rng: Rng) -> float:
    return float(rng.uniform(0.2, 0.8))


def _other(rng: Rng, others: Sequence[Path]) -> tuple[Path | None, float]:
    """One of the other videos and where in it to begin."""
    if not others:
        return None, 0.0
    path = others[int(rng.integers(len(others)))]
    return path, float(rng.uniform(0, max(0.0, read_shape(path).duration_seconds - 4)))


# --- Kinds that need more than one line ---


def _colour(rng: Rng, strength: float, reach: float) -> Edit:
    """Each of the four properties moves, one of them to the end of the reach."""
    moves = rng.uniform(0.2, 0.8, 4) * rng.choice([-1, 1], 4) * reach * (0.3 + 0.7 * strength)
    strong = int(rng.integers(4))
    moves[strong] = _sign(rng) * reach * (0.3 + 0.7 * strength)
    return colour(
        brightness=float(1 + moves[0]),
        contrast=float(1 + moves[1]),
        saturation=float(1 + moves[2]),
        hue_degrees=float(60 * moves[3]),
    )


def _strong_colour(rng: Rng, strength: float, _: Sequence[Path]) -> Edit:
    # At least 0.36 in one property, where `colour` itself calls it heavy.
    edit = _colour(rng, strength, 0.6)
    return edit if edit.strength == "heavy" else _colour(rng, 1.0, 0.6)


def _borders(rng: Rng, strength: float, *, is_patterned: bool) -> Edit:
    kind: Literal["letterbox", "pillarbox"] = "letterbox" if rng.random() < 0.5 else "pillarbox"
    return borders(kind=kind, share=_from_to(strength, 0.06, 0.3), is_patterned=is_patterned)


def _bands(rng: Rng, strength: float, _: Sequence[Path]) -> Edit:
    return captioned_bands(share=_from_to(strength, 0.6, 0.32), is_blurred=bool(rng.random() < 0.4))


def _dropped(rng: Rng, strength: float, _: Sequence[Path]) -> Edit:
    if rng.random() < 0.5:
        return decimate(2 if strength < 0.5 else 3)
    return drop_frames(_from_to(strength, 0.1, 0.6))


def _factor(rng: Rng, strength: float, weak: float, strong: float) -> float:
    """A speed, faster or slower; the reach is the same on the scale of logarithms."""
    return float(_from_to(strength, weak, strong) ** _sign(rng))


def _frozen(rng: Rng, strength: float, _: Sequence[Path]) -> Edit:
    at, seconds = float(rng.uniform(0.25, 0.75)), _from_to(strength, 0.5, 2.0)
    return freeze(at, seconds, is_inserted=bool(rng.random() < 0.5))


def _fades(rng: Rng, strength: float, _: Sequence[Path]) -> Edit:
    flashes = rng.uniform(0.2, 0.8, 1 + round(2 * strength)) if rng.random() < 0.5 else ()
    seconds = _from_to(strength, 0.4, 1.2)
    if len(flashes) == 0:
        return fades(seconds)
    is_in = bool(rng.random() < 0.5)
    return fades(seconds, is_in=is_in, is_out=bool(rng.random() < 0.5), flashes=[float(f) for f in flashes])


def _picture_in_picture(rng: Rng, strength: float, others: Sequence[Path]) -> Edit:
    over, start = _other(rng, others)
    share = _from_to(strength, 0.62, 0.32)
    return picture_in_picture(share=share, over=over, over_start_seconds=start)


def _reaction(rng: Rng, strength: float, others: Sequence[Path]) -> Edit:
    # Mostly a person, as in life.
    over, start = _other(rng, others) if rng.random() < 0.3 else (None, 0.0)
    return reaction(share=_from_to(strength, 0.24, 0.46), over=over, over_start_seconds=start)


def _split(rng: Rng, strength: float, others: Sequence[Path], sides: tuple[Side, Side]) -> Edit:
    over, start = _other(rng, others) if rng.random() < 0.5 else (None, 0.0)
    side = sides[int(rng.integers(2))]
    return reaction_split(side, share=_from_to(strength, 0.62, 0.4), over=over, over_start_seconds=start)


def _insert(
    rng: Rng, strength: float, others: Sequence[Path], make: Callable[..., Edit], longest: float
) -> Edit:
    # A card is common even where other videos are at hand.
    over, start = _other(rng, others) if rng.random() < 0.6 else (None, 0.0)
    kinds: tuple[Insert, ...] = get_args(Insert)
    kind = kinds[int(rng.integers(len(kinds)))]
    return make(_from_to(strength, 1.0, longest), kind=kind, over=over, over_start_seconds=start)


def _sound(rng: Rng, strength: float, others: Sequence[Path]) -> Edit:
    over, start = _other(rng, others) if rng.random() < 0.5 else (None, 0.0)
    return replace_sound(over, start_seconds=start, rest=0.5 * (1 - strength) if strength < 0.5 else 0.0)


_ALL = (
    EditKind("slight-speed", "light", lambda r, s, _: speed(_factor(r, s, 1.05, 1.25)), "speed"),
    EditKind("speed", "heavy", lambda r, s, _: speed(_factor(r, s, 1.3, 2.0)), "speed"),
    EditKind("dropped-frames", "light", _dropped, "clock"),
    EditKind("frozen-frame", "heavy", _frozen, "clock"),
    EditKind("reversed", "heavy", lambda *_: reverse(), "clock"),
    EditKind("colour-filter", "light", lambda r, s, _: _colour(r, s, 0.34), "colour"),
    EditKind("strong-colour", "heavy", _strong_colour, "colour"),
    EditKind("grey-and-grain", "heavy", lambda _, s, __: grey_noise(sigma=_from_to(s, 4, 20)), "colour"),
    EditKind("blur", "light", lambda _, s, __: blur(_from_to(s, 0.6, 2.0)), "focus"),
    EditKind("strong-blur", "heavy", lambda _, s, __: blur(_from_to(s, 2.2, 4.5)), "focus"),
    EditKind(
        "low-resolution",
        "light",
        lambda _, s, __: low_resolution(max_side=round(_from_to(s, 200, 96))),
        "focus",
    ),
    EditKind(
        "crop", "light", lambda r, s, _: crop(_from_to(s, 0.94, 0.76), x=_spot(r), y=_spot(r)), "framing"
    ),
    EditKind(
        "strong-crop",
        "heavy",
        lambda r, s, _: crop(_from_to(s, 0.72, 0.45), x=_spot(r), y=_spot(r)),
        "framing",
    ),
    EditKind("mirror", "light", lambda *_: mirror(), "framing"),
    EditKind(
        "mirror-and-crop",
        "heavy",
        lambda r, s, _: mirror_and_crop(_from_to(s, 0.85, 0.5), x=_spot(r), y=_spot(r)),
        "framing",
    ),
    EditKind(
        "slow-zoom",
        "light",
        lambda r, s, _: slow_zoom(_from_to(s, 1.08, 1.35), x=_spot(r), y=_spot(r), is_in=_sign(r) > 0),
        "camera",
    ),
    EditKind("rotation", "heavy", lambda r, s, _: rotate(_sign(r) * _from_to(s, 3, 12)), "camera"),
    EditKind("borders", "light", lambda r, s, _: _borders(r, s, is_patterned=False), "layout"),
    EditKind("patterned-borders", "light", lambda r, s, _: _borders(r, s, is_patterned=True), "layout"),
    EditKind("vertical-crop", "heavy", lambda r, _, __: vertical_crop(x=_spot(r)), "layout"),
    EditKind("vertical-blurred-fill", "heavy", lambda *_: vertical_blur(), "layout"),
    EditKind("captioned-bands", "heavy", _bands, "layout"),
    EditKind("picture-in-picture", "heavy", _picture_in_picture, "layout"),
    EditKind("reaction-face", "heavy", _reaction, "layout"),
    EditKind("reaction-beside", "heavy", lambda r, s, o: _split(r, s, o, ("left", "right")), "layout"),
    EditKind(
        "reaction-above-or-below", "heavy", lambda r, s, o: _split(r, s, o, ("top", "bottom")), "layout"
    ),
    EditKind("stickers", "light", lambda _, s, __: stickers(round(_from_to(s, 2, 5))), "stickers"),
    EditKind("many-stickers", "heavy", lambda _, s, __: stickers(round(_from_to(s, 6, 12))), "stickers"),
    EditKind("logo-and-subtitles", "light", lambda *_: logo_and_subtitles(), "words"),
    EditKind("fades-and-flashes", "light", _fades, "transition"),
    EditKind("intro", "heavy", lambda r, s, o: _insert(r, s, o, intro, 4.0), "insert"),
    EditKind("outro", "heavy", lambda r, s, o: _insert(r, s, o, outro, 4.0), "insert"),
    EditKind("muted", "light", lambda *_: mute(), "sound"),
    EditKind("sound-replaced", "light", _sound, "sound"),
    EditKind("filmed-screen", "heavy", lambda _, s, __: filmed_screen(s), "screen"),
    EditKind(
        "reencoded",
        "light",
        lambda _, s, __: reencode(crf=round(_from_to(s, 29, 38)), max_side=round(_from_to(s, 320, 176))),
        "upload",
    ),
)

#: Every kind by its name.
KINDS: Mapping[str, EditKind] = {kind.name: kind for kind in _ALL}


def draw_edits(
    rng: np.random.Generator,
    n: int,
    *,
    others: Sequence[Path] = (),
    level: Strength | None = None,
) -> tuple[tuple[str, ...], list[Edit]]:
    """Draw ``n`` kinds that go well together, each at a strength of its own.

    Args:
        rng: The source of randomness.
        n: How many.
        others: Videos that may be shown behind, beside or before the clip.
        level: Only kinds of this level; None for any.

    Returns:
        Names of the kinds and the edits, in the order in which uploaders would make them. No two are of
        one family, so at most one gives the picture another layout.

    Raises:
        ValueError: There are not so many families.
    """
    fitting = [kind for kind in _ALL if level is None or kind.level == level]
    if not 0 <= n <= len({kind.family for kind in fitting}):
        raise ValueError(f"{n} edits of level {level} are asked for, but not so many go together")
    chosen: list[EditKind] = []
    for number in rng.permutation(len(fitting)):
        kind = fitting[int(number)]
        if len(chosen) < n and kind.family not in {other.family for other in chosen}:
            chosen.append(kind)
    chosen.sort(key=lambda kind: FAMILIES.index(kind.family))
    edits = [kind.draw(rng, float(rng.random()), others) for kind in chosen]
    return tuple(kind.name for kind in chosen), edits


def draw_parts(
    rng: np.random.Generator,
    stretches: Sequence[ClipPart],
    *,
    n_parts: int | None = None,
    seconds: float = 8.0,
) -> list[ClipPart]:
    """Draw the parts of a montage: each from another stretch, none shorter than half an even share.

    Args:
        rng: The source of randomness.
        stretches: What may be cut from where, as one :class:`ClipPart` for each program.
        n_parts: How many; None for two to four.
        seconds: Of all parts together, if the stretches are long enough.

    Returns:
        Parts of different stretches, in the order they should be shown.

    Raises:
        ValueError: There are fewer stretches than parts.
    """
    if n_parts is None:
        n_parts = int(rng.integers(2, min(4, len(stretches)) + 1)) if len(stretches) >= 2 else 2
    if not 1 <= n_parts <= len(stretches):
        raise ValueError(f"{n_parts} parts need as many stretches, got {len(stretches)}")
    shares = 0.5 / n_parts + 0.5 * rng.dirichlet(np.ones(n_parts))
    parts = []
    for number, share in zip(rng.permutation(len(stretches))[:n_parts], shares, strict=True):
        whole = stretches[int(number)]
        length = min(float(share) * seconds, whole.duration_seconds)
        start = whole.start_seconds + float(rng.uniform(0, whole.duration_seconds - length))
        parts.append(replace(whole, start_seconds=start, duration_seconds=length))
    return parts


def demo_edits(rng: np.random.Generator) -> list[Edit]:
    """One of each kind, with parameters drawn from ``rng``; light ones first."""
    x = float(rng.uniform(0.2, 0.8))
    kinds = [
        reencode(crf=int(rng.integers(30, 37)), max_side=int(rng.choice([200, 240, 280]))),
        crop(float(rng.uniform(0.75, 0.9)), x=x, y=float(rng.uniform(0.2, 0.8))),
        borders(kind="letterbox", share=float(rng.uniform(0.1, 0.25))),
        borders(kind="pillarbox", share=float(rng.uniform(0.1, 0.25))),
        logo_and_subtitles(),
        mirror(),
        colour(
            brightness=float(rng.uniform(0.8, 1.2)),
            contrast=float(rng.uniform(0.75, 1.3)),
            saturation=float(rng.uniform(0.7, 1.3)),
            hue_degrees=float(rng.uniform(-20, 20)),
        ),
        blur(float(rng.uniform(1.0, 2.0))),
        stickers(4),
        vertical_crop(x=x),
        vertical_blur(),
        grey_noise(sigma=float(rng.uniform(6, 14))),
        speed(float(rng.choice([0.5, 0.75, 1.5, 2.0]))),
        picture_in_picture(share=float(rng.uniform(0.45, 0.6))),
        reaction(),
    ]
    return sorted(kinds, key=lambda edit: edit.strength == "heavy")
