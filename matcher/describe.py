"""Files to descriptors: decoding and encoding side by side, in bounded memory.

One thread decodes and shrinks, the caller's thread encodes; a short queue of ready batches lies
between, so the slower of the two sets the pace. Several files run through one stream, so the
decoder is on the next file while the last frames of this one are encoded.

Shape letters: ``n`` frames, ``s`` the encoder's input side, ``d`` descriptor dimensions.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.decode import Sampling, sample_frames
from matcher.decode_sound import SoundPiece, SoundTrack
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError, MatcherError
from matcher.layout import inner_box
from matcher.listen import Listener
from matcher.records import WHOLE, Descriptors, Frame, Look
from matcher.views import Picture, View, is_blank, square

#: Batches decoded ahead; with the encoder's batch they bound the memory.
QUEUE_BATCHES = 8
#: An upright clip's layout is read off its first pictures.
LAYOUT_PICTURES = 8
#: An album keeps at most so many pictures; of a longer clip it keeps every second, fourth, … one.
ALBUM_PICTURES = 128


@dataclass
class Album:
    """A clip's informative pictures as decoded, kept for a second look, and the view of the first.

    Attributes:
        view: What the first look went through.
        stride: Every so manyth informative picture is kept; 1 until there are too many.
        pictures: (h, w, 3) each, in time order.
        t_seconds: Their times.
        sound: What was heard meanwhile, before it was described.
    """

    view: View = field(default_factory=lambda: View(WHOLE))
    stride: int = 1
    pictures: list[Picture] = field(default_factory=list)
    t_seconds: list[float] = field(default_factory=list)
    sound: list[SoundPiece] = field(default_factory=list)
    _seen: int = 0

    def keep(self, frame: Frame) -> None:
        """Take in the next informative frame, unless its turn is not yet."""
        if self._seen % self.stride == 0:
            if len(self.pictures) == ALBUM_PICTURES:
                self.pictures, self.t_seconds = self.pictures[::2], self.t_seconds[::2]
                self.stride *= 2
            if self._seen % self.stride == 0:
                self.pictures.append(frame.image)
                self.t_seconds.append(frame.t_seconds)
        self._seen += 1


@dataclass(frozen=True)
class Described:
    """What became of one file: descriptors, or the reason why there are none.

    Attributes:
        path: The file.
        descriptors: Of its first look.
        error: Why there are none.
        album: Pictures for a second look, where they were asked for.
    """

    path: Path
    descriptors: Descriptors | None
    error: InputError | None
    album: Album | None = None


@dataclass
class Block:
    """Prepared pictures of one file; ``last`` closes the file, ``fatal`` ends the stream.

    Attributes:
        path: The file.
        images: (s, s, 3) each, in time order; blank frames are left out.
        t_seconds: Of ``images``.
        frames_seen: Frames sampled from the file so far, blank ones included.
        last_seconds: Time of the last of them.
        last: Whether the file ends here.
        error: Why it cannot be used.
        fatal: Anything that is not the file's fault.
        album: Comes with the last block of a clip.
        sound: Comes with the last block of a file that was listened to.
    """

    path: Path
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    t_seconds: list[float] = field(default_factory=list)
    frames_seen: int = 0
    last_seconds: float = 0.0
    last: bool = False
    error: InputError | None = None
    fatal: BaseException | None = None
    album: Album | None = None
    sound: Look | None = None


def describe_files(
    paths: Iterable[Path],
    encoder: FrameEncoder,
    sampling: Sampling,
    *,
    on_frames: Callable[[Path, float], None] | None = None,
    are_clips: bool = False,
    listener: Listener | None = None,
) -> Iterator[Described]:
    """Describe files in order, one result a file; a bad file gives its error and the rest goes on.

    Args:
        paths: Read one by one, as the decoder gets to them.
        encoder: Makes the descriptors.
        sampling: Which frames.
        on_frames: Called with the file and the time reached, for progress.
        are_clips: Looks at upright ones through their inner picture, and gives an album with each.
        listener: Describes their sound; None where nobody is to listen.

    Yields:
        One :class:`Described` for each path, in order.

    Raises:
        MatcherError: Anything that is not the fault of one file; an :class:`InputError` if iterating
            over ``paths`` raised it.
    """
    ready: queue.Queue[Block | None] = queue.Queue(maxsize=QUEUE_BATCHES)
    stop = threading.Event()
    decoder = threading.Thread(
        target=_decode_all,
        args=(paths, encoder, sampling, ready, stop, are_clips, listener),
        name="decode",
        daemon=True,
    )
    decoder.start()
    try:
        yield from _encode_all(iter(ready.get, None), encoder, on_frames)
    finally:
        stop.set()
        while decoder.is_alive():
            _drain(ready)
            decoder.join(timeout=0.05)


def describe_file(path: Path, encoder: FrameEncoder, sampling: Sampling) -> Descriptors:
    """Describe one file.

    Raises:
        InputError: It cannot be decoded.
    """
    result = next(describe_files([path], encoder, sampling))
    if result.error is not None:
        raise result.error
    assert result.descriptors is not None
    return result.descriptors


def describe_clip(frames: Iterable[Frame], encoder: FrameEncoder) -> tuple[Descriptors, Album]:
    """Describe a clip that is in memory as its file would be, decoded to ``frames``; and its album."""
    blocks = _blocks_of(Path(), iter(frames), encoder, is_clip=True)
    (result,) = _encode_all(blocks, encoder, None)
    assert result.descriptors is not None
    assert result.album is not None
    return result.descriptors, result.album


def _drain(ready: queue.Queue[Block | None]) -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        return


def _decode_all(
    paths: Iterable[Path],
    encoder: FrameEncoder,
    sampling: Sampling,
    ready: queue.Queue[Block | None],
    stop: threading.Event,
    are_clips: bool,
    listener: Listener | None,
) -> None:
    def put(block: Block | None) -> None:
        while not stop.is_set():
            try:
                ready.put(block, timeout=0.1)
                return
            except queue.Full:
                continue

    try:
        for path in paths:
            for block in prepared_blocks(path, encoder, sampling, is_clip=are_clips, listener=listener):
                if stop.is_set():
                    return
                put(block)
        put(None)
    except BaseException as error:  # handed to the caller's thread, which raises it
        put(Block(Path(), fatal=error))


def prepared_blocks(
    path: Path,
    encoder: FrameEncoder,
    sampling: Sampling,
    *,
    is_clip: bool = False,
    listener: Listener | None = None,
) -> Iterator[Block]:
    """What the decoding side makes of one file: prepared pictures in batches of the encoder's size.

    The last block, which may be short or without pictures, says how the file ended: with an error or not.
    """
    if listener is None:
        yield from _blocks_of(path, sample_frames(path, sampling), encoder, is_clip=is_clip)
        return
    track = SoundTrack()
    frames = sample_frames(path, sampling, sound=track)
    for block in _blocks_of(path, frames, encoder, is_clip=is_clip):
        if block.last and block.error is None:
            pieces = track.pieces()
            block.sound = listener.look(pieces)
            if block.album is not None:
                block.album.sound = pieces
        yield block


def _blocks_of(
    path: Path, frames: Iterator[Frame], encoder: FrameEncoder, *, is_clip: bool
) -> Iterator[Block]:
    block = Block(path)
    album = Album()
    seen = 0
    try:
        if is_clip:
            frames, album.view = _first_view(frames)
        for frame in frames:
            seen += 1
            block.frames_seen, block.last_seconds = seen, frame.t_seconds
            if is_blank(frame.image):
                continue
            if is_clip:
                album.keep(frame)
            block.images.append(square(album.view.through(frame.image), encoder.input_side))
            block.t_seconds.append(frame.t_seconds)
            if len(block.images) == encoder.batch_size:
                yield block
                block = Block(path, frames_seen=seen, last_seconds=frame.t_seconds)
    except InputError as error:
        block.error = error
    block.last = True
    block.album = album if is_clip else None
    yield block


def _first_view(frames: Iterator[Frame]) -> tuple[Iterator[Frame], View]:
    """The same frames, and the view that the first look at a clip goes through."""
    first = list(itertools.islice(frames, 1))
    if first and first[0].image.shape[0] >= first[0].image.shape[1]:
        first += itertools.islice(frames, LAYOUT_PICTURES - 1)
    box = inner_box([frame.image for frame in first if not is_blank(frame.image)])
    return itertools.chain(first, frames), View(WHOLE, box)


def _encode_all(
    blocks: Iterable[Block],
    encoder: FrameEncoder,
    on_frames: Callable[[Path, float], None] | None,
) -> Iterator[Described]:
    vectors: list[NDArray[np.float32]] = []
    times: list[float] = []
    for block in blocks:
        if isinstance(block.fatal, Exception) and not isinstance(block.fatal, MatcherError):
            what = f"{type(block.fatal).__name__}: {block.fatal}"
            raise MatcherError(f"decoding failed: {what}") from block.fatal
        if block.fatal is not None:
            raise block.fatal
        if block.images:
            vectors.append(encoder.encode(np.stack(block.images)))
            times.extend(block.t_seconds)
        if on_frames is not None:
            on_frames(block.path, block.last_seconds)
        if not block.last:
            continue
        if block.error is not None:
            yield Described(block.path, None, block.error)
        else:
            found = _assemble(vectors, times, block, encoder.info.d)
            yield Described(block.path, found, None, block.album)
        vectors, times = [], []


def _assemble(vectors: list[NDArray[np.float32]], times: list[float], last: Block, d: int) -> Descriptors:
    return Descriptors(
        t_seconds=np.asarray(times, np.float64),
        vectors=np.concatenate(vectors) if vectors else np.zeros((0, d), np.float32),
        duration_seconds=_duration(last),
        frames_seen=last.frames_seen,
        sound=last.sound,
    )


def _duration(last: Block) -> float:
    """The last frame sampled is on the screen for about as long as those before it were."""
    if last.frames_seen < 2:
        return last.last_seconds
    return last.last_seconds + last.last_seconds / (last.frames_seen - 1)
