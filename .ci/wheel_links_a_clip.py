"""Run with the Python of an environment that holds the wheel: adds generated programs, links one clip.

The working directory is empty and stays outside the checkout, which is named as the only argument.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import matcher
from eval.dramas import catalogue, render_episode, write_catalogue, write_manifest
from eval.video_writer import write_video

MATCHER = str(Path(sys.executable).parent / "matcher")
CLIP_START_SECONDS, CLIP_STOP_SECONDS = 12, 22


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"  {text}", flush=True)


def run(*words: str) -> str:
    """Run the installed command; what it prints on stdout, or stop when it fails."""
    say("matcher " + " ".join(words))
    done = subprocess.run([MATCHER, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"matcher {words[0]} ended with exit code {done.returncode}")
    return done.stdout


def main(checkout: Path) -> None:
    """Fail unless the clip is linked to the program and to the seconds that it was cut from."""
    here = Path(str(matcher.__file__)).resolve()
    assert not here.is_relative_to(checkout), f"this tests the checkout, not the wheel: {here}"
    assert "query" in run("--help")

    say("generating three programs and a clip")
    programs = catalogue(3, seed=5, n_twin_pairs=0, n_episodes=1, episode_seconds=30.0)
    write_manifest(write_catalogue(programs, Path("films")), Path("programs.csv"))
    wanted = programs[1]
    cut = itertools.islice(
        render_episode(wanted, 1), CLIP_START_SECONDS * wanted.fps, CLIP_STOP_SECONDS * wanted.fps
    )
    mirrored = (frame[:, ::-1].copy() for frame in cut)
    n_frames = write_video(Path("clip.mp4"), mirrored, fps=wanted.fps, crf=30)
    assert n_frames == (CLIP_STOP_SECONDS - CLIP_START_SECONDS) * wanted.fps, dataclasses.asdict(wanted)

    run("add", "--store", "store", "--manifest", "programs.csv")
    lines = run("query", "--store", "store", "--json", "clip.mp4").splitlines()
    assert len(lines) == 1, lines
    answer = json.loads(lines[0])
    say(lines[0])
    assert answer["decision"] == "linked", answer["decision"]
    assert answer["program_id"] == wanted.program_id, f"{answer['program_id']}, not {wanted.program_id}"
    segment = answer["links"][0]["segments"][0]
    offset = segment["asset_start_seconds"] - segment["clip_start_seconds"]
    assert abs(offset - CLIP_START_SECONDS) <= 2, segment


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
