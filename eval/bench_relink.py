"""What a night's re-link costs beside a full one, as the share of the programs that changed grows.

The store is made up, see :mod:`eval.relink_store`. Of the changed programs a third is replaced by a new
version of itself, a third taken out, a third new; clips are kept of all of them. Processor time is the
process's own, of all its threads; opening and refreshing the index is in neither side.

==============  ====================================================================================
``full``        answering every clip: measured on a sample, whole parts as a night takes them, through
                :func:`matcher.relink.answer_parts`, and multiplied; without a sample, a full night
``nights``      incremental nights, whole, with their commits; the first is held against ``full``
``verified``    clips answered before the change whose link, made by construction, rests on the same
``compared``    clips whose kept link is held against a fresh answer, after the night: all of the
                sample, and as many that the night answered; and what differs, by where and in what
==============  ====================================================================================
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench import processor_name
from eval.relink_store import (
    TOP,
    Size,
    clip_name,
    open_store,
    program_name,
    program_number,
    put_programs,
)
from index.catalog import Catalog, NightRecord, Writer
from index.live import LiveIndex
from index.places import place_of
from index.rows import LinkRecord
from matcher.affected import GONE
from matcher.config import Settings
from matcher.linking import Linker
from matcher.relink import Night, Order, Watch, answer_here, answer_parts, relink
from matcher.staging import PART_CLIPS, Staging
from matcher.store import open_linker, save_caches

#: What the incremental night may take of the full one's processor time.
GOAL = 0.02
#: Share of the compared clips that must have the same link.
SAME_GOAL = 0.999
CHANGED, FULL_SAMPLE = 0.001, 20_000
SHARES = (0.0001, 0.001, 0.01, 0.1)
#: Clips that the night answered and that are answered once more, at most.
MOST_INSIDE = 5000
#: float16 is so coarse below 1; bars are rounded down to it.
_HALF_STEP = 2.0**-11
#: Confidences and seconds that differ by less are the same.
_LEAST = 1e-4


@dataclass(frozen=True)
class Changed:
    """Programs that changed before a night, by their numbers in :mod:`eval.relink_store`."""

    replaced: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    new: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.replaced) + len(self.removed) + len(self.new)

    @property
    def every(self) -> tuple[int, ...]:
        """All of them."""
        return (*self.replaced, *self.removed, *self.new)


@dataclass(frozen=True)
class NightCost:
    """One incremental night.

    Attributes:
        share: Of the programs that changed.
        programs: How many those were.
        cpu_seconds: Of the night and its commit.
        seconds: Likewise, on the wall.
        comparing_cpu_seconds: Of finding the clips to answer.
        answering_cpu_seconds: Of answering them.
        way: How they were found; "full" where the night chose to answer all.
        new_vectors: That clips were compared with.
        answered: Clips.
        why: Those, by why.
        changes: Those, by kind of change.
        ratio: Of the full run's processor time.
    """

    share: float
    programs: int
    cpu_seconds: float
    seconds: float
    comparing_cpu_seconds: float
    answering_cpu_seconds: float
    way: str
    new_vectors: int
    answered: int
    why: Mapping[str, int]
    changes: Mapping[str, int]
    ratio: float


@dataclass(frozen=True)
class FullCost:
    """The full run.

    Attributes:
        cpu_seconds: Of all clips; of a sample, multiplied.
        measured: Clips that were answered.
        measured_cpu_seconds: What that took.
        milliseconds: A clip.
    """

    cpu_seconds: float
    measured: int
    measured_cpu_seconds: float
    milliseconds: float


@dataclass(frozen=True)
class RelinkBench:
    """What one run found.

    Attributes:
        clips: Kept.
        programs: In the store, at first.
        frames: Of them.
        kind: Of the index.
        full: The full run.
        nights: Incremental ones: first that of the share asked for, then those of the further shares.
        verified: Links made by construction that were held against real ones, and how many differed.
        compared: Kept links that were held against fresh answers after the first night: of clips that it
            left alone, and of clips that it answered.
        differences: Of those, by where and in what.
        cheaper_from: The share of changed programs from which a full run is cheaper, by a straight line
            through the last two nights; None without them, or where none is.
        peak_gb: The most memory that the process held.
        machine: The processor.
        seed: Of everything.
        goals: Whether they are met, see :data:`GOAL` and :data:`SAME_GOAL`.
    """

    clips: int
    programs: int
    frames: int
    kind: str
    full: FullCost
    nights: tuple[NightCost, ...]
    verified: Mapping[str, int]
    compared: Mapping[str, int]
    differences: Mapping[str, int]
    cheaper_from: float | None
    peak_gb: float
    machine: str
    seed: int
    goals: Mapping[str, bool]

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return asdict(self)


def parse_shares(words: str) -> tuple[float, ...]:
    """Shares as "0.001,0.01".

    Raises:
        ValueError: A word is no number.
    """
    try:
        return tuple(float(word) for word in words.split(",") if word.strip())
    except ValueError:
        raise ValueError(f"{words!r} are no shares; write 0.0001,0.001,0.01,0.1") from None


def bench_relink(
    folder: Path,
    size: Size,
    *,
    changed: float = CHANGED,
    shares: Sequence[float] = (),
    full_sample: int = FULL_SAMPLE,
    on_step: Callable[[str], None] = lambda _: None,
) -> RelinkBench:
    """Change programs, re-link, and hold that against a full run.

    Args:
        folder: Where the store is, or is made. Each night changes it, and another run goes on from there.
        size: Of the store.
        changed: Share of the programs that change before the night that is looked at closely.
        shares: Further nights, of which only the cost is taken, one after the other.
        full_sample: Clips to measure the full run on; 0 for all, in a night of its own at the end.
        on_step: Told what is done next.

    Raises:
        ValueError: A share is not above 0 and up to 1, or the folder holds another store.
    """
    for share in (changed, *shares):
        if not 0 < share <= 1:
            raise ValueError(f"a share of changed programs must be above 0 and at most 1, got {share}")
    catalog = open_store(folder, size, on_step)
    with catalog.writing() as writer:
        on_step("opening the index")
        live = _opened(catalog, writer)
        run = _Run(writer, live, open_linker(catalog, Settings(), live), size, on_step)
        return run.all(changed, shares, full_sample)


def _opened(catalog: Catalog, writer: Writer) -> LiveIndex:
    """The index, and its snapshot on the disk: another run need not train it again."""
    live = save_caches(catalog, Settings().index, writer)
    assert isinstance(live, LiveIndex)
    return live


class _Run:
    """A store under its lock, with its index."""

    def __init__(
        self, writer: Writer, live: LiveIndex, linker: Linker, size: Size, on_step: Callable[[str], None]
    ) -> None:
        self._writer, self._live, self._linker, self._size = writer, live, linker, size
        self._catalog, self._on_step = writer.catalog, on_step

    def all(self, changed: float, shares: Sequence[float], full_sample: int) -> RelinkBench:
        size, live = self._size, self._live
        sample = sample_of(size, full_sample)
        frames, kind = live.ntotal, live.kind
        plan = self._plan(changed)
        verified, full = self._last_night(sample, plan)
        self._change(plan)
        night = self._night(changed, len(plan))
        self._on_step("holding kept links against fresh answers")
        compared, differences, again = self._compare(sample, _of(size, plan.every))
        # Of two measurements of the same, in one run, the cheaper one: less of others' noise.
        full = min(full, again, key=lambda cost: cost.milliseconds) if full_sample else full
        nights = [night]
        for share in shares:
            plan = self._plan(share)
            self._change(plan)
            nights.append(self._night(share, len(plan)))
        if full_sample == 0:
            full = self._full_night()
        nights = [_with_ratio(one, full) for one in nights]
        same = 1 - sum(differences.values()) / max(sum(compared.values()), 1)
        return RelinkBench(
            clips=size.clips, programs=size.programs, frames=frames, kind=kind, full=full,
            nights=tuple(nights), verified=verified, compared=compared, differences=differences,
            cheaper_from=cheaper_from(nights, full.cpu_seconds), peak_gb=_peak_gb(),
            machine=processor_name(), seed=size.seed,
            goals={"cost": nights[0].ratio <= GOAL, "same": same >= SAME_GOAL},
        )  # fmt: skip

    def _plan(self, share: float) -> Changed:
        """Which programs change next: a third each is replaced, taken out and new, as long as there are."""
        live = np.array([program_number(record) for record in self._catalog.programs()])
        absent = np.setdiff1d(np.arange(self._size.every_program), live)
        rng = np.random.default_rng([self._size.seed, 8, len(self._catalog.nights())])
        n = max(1, round(share * live.size))
        n_replaced, n_removed, n_new = ((n + 2 - turn) // 3 for turn in range(3))
        there = rng.choice(live, min(n_replaced + n_removed, live.size - 1), replace=False).tolist()
        new = rng.choice(absent, min(n_new, absent.size), replace=False).tolist()
        return Changed(tuple(there[:n_replaced]), tuple(there[n_replaced:]), tuple(new))

    def _last_night(self, sample: NDArray[np.int64], plan: Changed) -> tuple[dict[str, int], FullCost]:
        """Answer in earnest what is looked at later, in place of what was made; and what that takes."""
        self._on_step(f"answering {sample.size} clips")
        found, full = self._answered(sample)
        verified = self._verified(found)
        inside = np.setdiff1d(_of(self._size, plan.every), sample)
        self._on_step(f"answering {inside.size} clips of programs that will change")
        others, _ = self._answered(inside)
        verified.update(self._verified(others))
        before = self._catalog.whole_links([link.clip_id for link in (*found, *others)])
        nights = self._catalog.nights()
        for part in _parts([*found, *others]):
            self._writer.put_links([_as_of(link, before[link.clip_id], nights[-1].night) for link in part])
        self._catalog.refresh()
        # What a real night would have measured: the next one decides by it which way is cheaper.
        summary = {"figures": {"cpu_seconds_a_clip": full.milliseconds / 1000}}
        last = nights[-1]
        self._writer.put_night(
            NightRecord(last.night, last.epoch, last.known, last.catalog_version, json.dumps(summary))
        )
        self._catalog.refresh()
        return {"clips": verified["clips"], "different": verified["different"]}, full

    def _answered(self, clips: NDArray[np.int64]) -> tuple[list[LinkRecord], FullCost]:
        """Answer some clips as a full night does, but for its commit."""
        names = [(clip_name(clip), GONE) for clip in clips.tolist()]
        answerer = partial(answer_here, catalog=self._catalog, linker=self._linker, top=TOP)
        with tempfile.TemporaryDirectory(prefix="matcher-bench-") as folder:
            staging = Staging(place_of(folder))
            staging.begin({}, dict(names))
            started = time.process_time()
            answer_parts(self._catalog, staging, names, {}, answerer, 0, Watch())
            spent = time.process_time() - started
            links = [link for part in staging.parts() for link in part]
        each = spent / max(len(names), 1)
        return links, FullCost(each * self._size.clips, len(names), spent, 1000 * each)

    def _verified(self, found: Sequence[LinkRecord]) -> Counter[str]:
        """How many of the kept links rest on the same as these, which are real."""
        counts: Counter[str] = Counter()
        for part in _parts(found):
            kept = self._catalog.whole_links([link.clip_id for link in part])
            for link in part:
                counts["clips"] += 1
                counts["different"] += not rests_on_the_same(link, kept[link.clip_id])
        return counts

    def _change(self, plan: Changed) -> None:
        self._on_step(
            f"{len(plan.replaced)} programs replaced, {len(plan.removed)} taken out, {len(plan.new)} new"
        )
        version = 1 + len(self._catalog.nights())
        put_programs(self._writer, self._size, [*plan.replaced, *plan.new], version)
        self._writer.remove_programs(map(program_name, plan.removed))
        self._live.refresh()

    def _night(self, share: float, programs: int) -> NightCost:
        self._on_step(f"re-linking, {share:.2%} of the programs changed")
        cpu, started = time.process_time(), time.monotonic()
        night = relink(self._writer, self._linker, Order(TOP, accept=True))
        spent, seconds = time.process_time() - cpu, time.monotonic() - started
        self._catalog.refresh()
        return _cost_of(night, share, programs, spent, seconds)

    def _full_night(self) -> FullCost:
        self._on_step(f"re-linking all {self._size.clips} clips")
        cpu = time.process_time()
        night = relink(self._writer, self._linker, Order(TOP, full=True, accept=True))
        spent = time.process_time() - cpu
        return FullCost(spent, night.answered, spent, 1000 * spent / max(night.answered, 1))

    def _compare(
        self, sample: NDArray[np.int64], inside: NDArray[np.int64]
    ) -> tuple[dict[str, int], dict[str, int], FullCost]:
        """Kept links after the night against fresh answers; and what those of the sample took."""
        fresh, cost = self._answered(sample)
        others, _ = self._answered(np.setdiff1d(inside, sample)[:MOST_INSIDE])
        last = self._catalog.nights()[-1].night
        compared, differences = Counter[str](), Counter[str]()
        for part in _parts([*fresh, *others]):
            kept = self._catalog.whole_links([link.clip_id for link in part])
            for link in part:
                was = kept[link.clip_id]
                where = "answered" if was.basis is not None and was.basis.night == last else "left alone"
                compared[where] += 1
                what = difference(was, link)
                if what:
                    differences[f"{where}: {what}"] += 1
        return dict(compared), dict(differences), cost


def sample_of(size: Size, n: int) -> NDArray[np.int64]:
    """(m,) ascending: whole parts of consecutive clips, as a full night reads them; none of n = 0."""
    n_parts = -(-size.clips // PART_CLIPS)
    wanted = min(-(-n // PART_CLIPS), n_parts)
    parts = np.random.default_rng([size.seed, 9]).choice(n_parts, wanted, replace=False)
    clips = (np.sort(parts)[:, None] * PART_CLIPS + np.arange(PART_CLIPS)).ravel()
    return clips[clips < size.clips]


def rests_on_the_same(one: LinkRecord, other: LinkRecord) -> bool:
    """Whether two links rest on the same programs, and on bars that differ by rounding at most."""
    a, b = one.basis, other.basis
    return (
        a is not None and b is not None and a.epoch == b.epoch and np.array_equal(a.numbers, b.numbers)
        and a.bars.shape == b.bars.shape and bool(np.all(np.abs(a.bars - b.bars) <= _HALF_STEP))
    )  # fmt: skip


def difference(one: LinkRecord, other: LinkRecord) -> str:
    """In what two links of a clip differ; "" where they do not."""
    if one.decision != other.decision:
        return "decision"
    parts = [_links_of(record) for record in (one, other)]
    if [link["program_id"] for link in parts[0]] != [link["program_id"] for link in parts[1]]:
        return "programs"
    a, b = (
        [record.confidence, *(link["confidence"] for link in own)]
        for record, own in zip((one, other), parts, strict=True)
    )
    if not np.allclose(a, b, rtol=0, atol=_LEAST):
        return "confidence"
    stretches = [[_places(segment) for link in own for segment in link["segments"]] for own in parts]
    if [names for names, _ in stretches[0]] != [names for names, _ in stretches[1]]:
        return "segments"
    was, now = ([seconds for _, seconds in own] for own in stretches)
    return "" if np.allclose(was, now, rtol=0, atol=_LEAST) else "segments"


def _links_of(record: LinkRecord) -> list[dict[str, Any]]:
    words = json.loads(record.answer)
    links: list[dict[str, Any]] = words["links"] or words["review"]
    return links


def _places(segment: Mapping[str, Any]) -> tuple[str, list[float]]:
    names = ("clip_start_seconds", "clip_end_seconds", "asset_start_seconds", "asset_end_seconds")
    return segment["asset_id"], [segment[name] for name in names]


def cheaper_from(nights: Sequence[NightCost], full_cpu_seconds: float) -> float | None:
    """The share from which a full run is cheaper: where the line through the last two nights reaches it.

    Args:
        nights: Of several shares; those that chose to answer all clips tell nothing.
        full_cpu_seconds: What the full run takes.
    """
    own = sorted((night for night in nights if night.way != "full"), key=lambda night: night.share)
    if len({night.share for night in own}) < 2:
        return None
    low, high = own[-2], own[-1]
    slope = (high.cpu_seconds - low.cpu_seconds) / max(high.share - low.share, 1e-12)
    share = high.share + (full_cpu_seconds - high.cpu_seconds) / slope if slope > 0 else np.inf
    return float(share) if 0 < share <= 1 else None


def _cost_of(night: Night, share: float, programs: int, spent: float, seconds: float) -> NightCost:
    figures = night.figures
    answering = figures["answering_cpu_seconds"]
    return NightCost(
        share, programs, spent, seconds, figures["cpu_seconds"] - answering, answering, night.way,
        figures["new_vectors"], night.answered, dict(night.why),
        {name: n for name, n in night.counts.items() if n}, ratio=0.0,
    )  # fmt: skip


def _with_ratio(night: NightCost, full: FullCost) -> NightCost:
    return NightCost(**{**asdict(night), "ratio": night.cpu_seconds / max(full.cpu_seconds, 1e-9)})


def _of(size: Size, programs: Sequence[int]) -> NDArray[np.int64]:
    """(m,) the clips of some programs."""
    return np.flatnonzero(np.isin(size.program_of, programs))


def _as_of(link: LinkRecord, made: LinkRecord, night: int) -> LinkRecord:
    """A real link in place of one that was made, as old as that."""
    assert link.basis is not None
    assert made.basis is not None
    basis = type(link.basis)(**{**vars(link.basis), "night": night, "kept_at": made.basis.kept_at})
    return LinkRecord(**{**vars(link), "basis": basis, "history": ()})


def _parts(links: Sequence[LinkRecord]) -> Iterator[Sequence[LinkRecord]]:
    for start in range(0, len(links), PART_CLIPS):
        yield links[start : start + PART_CLIPS]


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def table_rows(bench: RelinkBench) -> Sequence[Sequence[str]]:
    """The figures as a table shows them; the full run comes last."""
    rows = [
        (
            f"{night.share:.2%}", str(night.programs), str(night.new_vectors), str(night.answered), night.way,
            f"{night.comparing_cpu_seconds:.1f}", f"{night.answering_cpu_seconds:.1f}",
            f"{night.cpu_seconds:.1f}", f"{night.ratio:.2%}",
        )
        for night in bench.nights
    ]  # fmt: skip
    full = bench.full
    return [*rows, ("full", "", "", str(bench.clips), "", "", "", f"{full.cpu_seconds:.0f}", "100.00%")]


def words_of(bench: RelinkBench) -> list[str]:
    """What a table does not say, a line each."""
    full, n = bench.full, sum(bench.compared.values())
    how = "" if full.measured == bench.clips else f", measured on {full.measured} of them and multiplied"
    lines = [
        f"full: {full.cpu_seconds:.0f} s of processor time for {bench.clips} clips{how}; "
        f"{full.milliseconds:.2f} ms a clip",
        f"links made by construction: {bench.verified['clips']} held against real ones, "
        f"{bench.verified['different']} rest on something else",
        f"kept links against fresh answers: {n} compared ({_counted(bench.compared)}), "
        f"{sum(bench.differences.values())} different" + (
            f" ({_counted(bench.differences)})" if bench.differences else ""
        ),
        f"wanted: at most {GOAL:.0%} of the full run's processor time ({_met(bench, 'cost')}) and "
        f"{SAME_GOAL:.1%} of the links the same ({_met(bench, 'same')}); peak memory {bench.peak_gb:.1f} GB",
    ]  # fmt: skip
    if bench.cheaper_from is not None:
        lines.append(f"a full run is cheaper from {bench.cheaper_from:.0%} of the programs on, by a line "
                     "through the last two")  # fmt: skip
    return lines


def _met(bench: RelinkBench, goal: str) -> str:
    return "met" if bench.goals[goal] else "not met"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))


def write_plot(bench: RelinkBench, file: Path) -> None:
    """Draw cost by share into a PNG file."""
    from eval.plots import png, share_cost_plot

    nights = sorted(bench.nights[1:] or bench.nights, key=lambda night: night.share)
    lines = {
        "incremental": [(night.share, night.cpu_seconds) for night in nights],
        "of that, comparing": [(night.share, night.comparing_cpu_seconds) for night in nights],
        "of that, answering": [(night.share, night.answering_cpu_seconds) for night in nights],
    }
    figure = share_cost_plot(lines, full=bench.full.cpu_seconds, cheaper_from=bench.cheaper_from)
    file.write_bytes(png(figure))
