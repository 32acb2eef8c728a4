"""Model cards: what is known of a trained model, as JSON and as a page for people; and where a model goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from index.files import write_atomically
from index.rows import now_utc
from matcher.errors import InputError
from matcher.inputs import one_line


def check_target(out: Path) -> None:
    """Refuse a file that a model cannot be written to, before anything is learned.

    Raises:
        InputError: It is called otherwise than *.safetensors, is a folder, or its folder is not there, or
            not to be written to.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"--out must end in .safetensors, got {out.name!r}")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"--out {out}: {'it is a folder' if out.is_dir() else 'its folder is not there'}")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"--out {out}: its folder cannot be written to")


def origin_of(command: str, note: str) -> dict[str, Any]:
    """When, by what and of which source a model was made: the part that all cards have."""
    return {
        "made_at": now_utc(),
        "command": one_line(command),
        "note": one_line(note),
        "revision": source_revision(),
        "versions": {name: version(name) for name in ("program-matcher", "torch", "numpy")},
    }


def heading(title: str, card: dict[str, Any]) -> list[str]:
    """How a card's page begins, with an empty line after it."""
    revision = f" at revision {card['revision']}" if card["revision"] else ""
    note = [card["note"]] if card["note"] else []
    return [f"# {title}", "", f"Trained {card['made_at']}{revision}.", *note, ""]


def versions_line(card: dict[str, Any]) -> str:
    """The versions of a card, as a line of a list."""
    return "- Versions: " + ", ".join(f"{name} {one}" for name, one in card["versions"].items()) + "."


def write_card(card: dict[str, Any], page: str, card_file: Path, page_file: Path) -> None:
    """Write both files, each in one step."""
    write_atomically(card_file, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(page_file, page.encode())


def source_revision() -> str:
    """The git revision of the program's own source, with "+" if it was changed since; "" without one."""
    root, git = Path(__file__).parents[2], shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""

    def said(*words: str) -> str:
        done = subprocess.run([git, "-C", str(root), *words], capture_output=True, text=True, check=True)  # noqa: S603
        return done.stdout.strip()

    try:
        return said("rev-parse", "HEAD") + ("+" if said("status", "--porcelain", "-uno") else "")
    except (subprocess.CalledProcessError, OSError):
        return ""
