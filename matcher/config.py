"""Settings: one TOML file into frozen models that refuse unknown keys.

Every component owns its section; the defaults are what the shipped model was measured with.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from index.files import user_cache_folder
from matcher.errors import InputError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderSettings(_Section):
    """Which model describes frames, and where it runs."""

    spec: str = "lite0"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "int8"] = "auto"
    threads: int = Field(0, ge=0)


class SamplingSettings(_Section):
    """How often files are looked at; the words of ``--sampling``."""

    programs: str = "fps=1"
    clips: str = "fps=2"


class IndexSettings(_Section):
    """What searches.

    Attributes:
        search: "one-stage" has every frame in memory; "two-stage" a vector a shot, and reads the frames of
            the nearest shots from the tables: for catalogues that outgrow memory.
        kind: The FAISS index, of the frames or of the shots; "auto" chooses by their number, as
            :mod:`index.engines` says.
        device: "gpu" takes all GPUs there are, and the CPU where there is none or too little room.
        shards: Parts that the programs are dealt to; None: one, or one for each GPU.
        nprobe: Inverted lists to visit; None: by the number of lists.
        stretches: Of two stages: the frames of so many nearest shots are compared with a frame of a clip.
    """

    search: Literal["one-stage", "two-stage"] = "one-stage"
    kind: Literal["auto", "flat", "ivf", "ivf-fp16", "ivf-pq"] = "auto"
    device: Literal["cpu", "gpu"] = "cpu"
    shards: int | None = Field(None, ge=1)
    nprobe: int | None = Field(None, ge=1)
    stretches: int = Field(32, ge=1)


class VotingSettings(_Section):
    """From neighbours to candidates.

    Attributes:
        k: Neighbours a frame.
        per_program: At most so many of one program count for one frame.
        floor: Neighbours below this similarity are no evidence, nor are those below what chance gives
            the frame; see :mod:`matcher.background`.
        hub_margin: Programs this close to a frame's best share its vote.
        candidates: Programs that go on to alignment.
        further_candidates: The same, for each view of a second look.
    """

    k: int = Field(100, ge=1)
    per_program: int = Field(6, ge=1)
    floor: float = Field(0.6, gt=-1, lt=1)
    hub_margin: float = Field(0.02, ge=0)
    candidates: int = Field(10, ge=1)
    further_candidates: int = Field(3, ge=1)


class SoundSettings(_Section):
    """What is made of a file's sound.

    Attributes:
        enabled: Whether anybody listens.
        spec: The model: ``logmel``, or ``logmel@FILE`` with a whitening of one's own.
        program_hop_seconds: From one patch of a program's to the next, in steps of 0.1 s. At 1 s, with a
            clip's patches every 0.1 s, sounds take 1.5 instead of 2.4 MB an hour, and of clips under music at
            -6 dB 0.96 instead of 0.98 find their program first (of real films 0.7 instead of 0.8).
        clip_hop_seconds: The same of a clip's: some patch of it then meets one of the program's.
        k: Neighbours a patch.
        per_program: At most so many of one program count for one patch.
        floor: As of :class:`VotingSettings`.
        candidates: Programs that go on to alignment: at most so many of those that agree best, and so many of
            those with most votes in time.
        speeds: A clip that nothing is sure of is heard again as if it had been played so many times as fast,
            pitch and all. A change of speed that keeps the pitch needs no such help.
    """

    enabled: bool = True
    spec: str = "logmel"
    program_hop_seconds: float = Field(0.5, ge=0.1, le=10)
    clip_hop_seconds: float = Field(0.2, ge=0.1, le=10)
    k: int = Field(50, ge=1)
    per_program: int = Field(4, ge=1)
    floor: float = Field(0.2, gt=-1, lt=1)
    candidates: int = Field(5, ge=1)
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = (0.8, 1.25, 1.5)


class DecisionSettings(_Section):
    """Confidence at which a link is made, and at which a person is asked.

    Where they are not set, those of the calibration hold. Between two twins, neither is more likely
    than one half: that is a case for review.

    Attributes:
        link: At least this confident.
        review: Likewise.
        second_look: Whether a clip that the first look does not link is looked at through other views.
    """

    link: float | None = Field(None, gt=0, le=1)
    review: float | None = Field(None, gt=0, le=1)
    second_look: bool = True

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.link is not None and self.review is not None and self.review > self.link:
            raise ValueError(f"review ({self.review}) must not be above link ({self.link})")
        return self


class FusionSettings(_Section):
    """Embeddings of clips and programs, and what rests on them: related programs, and categories.

    Attributes:
        enabled: Whether embeddings are made and asked.
        text: The text encoder: ``ngrams``, ``ngrams:D`` or ``open_clip:NAME/PRETRAINED``.
        scene: What says what a second of a clip's sound is like: ``melstats``, ``scene@FILE`` with a trained
            net, or "" for nobody.
        ocr: Whether texts are read in the pictures of clips; wants the extra ``ocr``.
        related: Least confidence of a related program; default that of its calibration.
        min_confidence: A category less confident is not named.
    """

    enabled: bool = True
    text: str = "ngrams"
    scene: str = "melstats"
    ocr: bool = False
    related: float | None = Field(None, gt=0, le=1)
    min_confidence: float = Field(0.5, ge=0, le=1)


class Settings(_Section):
    """Everything that can be set."""

    encoder: EncoderSettings = EncoderSettings()
    sampling: SamplingSettings = SamplingSettings()
    index: IndexSettings = IndexSettings()
    voting: VotingSettings = VotingSettings()
    sound: SoundSettings = SoundSettings()
    decision: DecisionSettings = DecisionSettings()
    fusion: FusionSettings = FusionSettings()

    def digest(self) -> str:
        """Hash of the resolved settings, 12 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def load_settings(path: Path | None) -> Settings:
    """Read ``path``; without one, the defaults.

    Raises:
        InputError: The file is missing, no TOML, or has a key or value that does not exist.
    """
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"settings {path} are not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"settings {path}: {key}: {first['msg']}") from error


def cache_folder() -> Path:
    """Where graphs are kept: ``MATCHER_CACHE``, else the user's cache folder."""
    return user_cache_folder()
