"""`scripts/nightly` and the files that start it, run for real; a stand-in for matcher where that will do."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, Library, Ran, Run, environment

NIGHTLY = ROOT / "scripts" / "nightly"
DEPLOY = ROOT / "scripts" / "deploy"
TODAY = date.today
MATCHER = shlex.join([sys.executable, "-m", "matcher"])

#: Writes down its words, says a line, leaves a report, and ends as it is told to.
STAND_IN = """\
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--report") + 1])
with open(os.environ["WORDS"], "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
def stopped(*_):
    sys.stderr.write("matcher: interrupted\\n")
    raise SystemExit(130)
signal.signal(signal.SIGINT, stopped)
print("begun", file=sys.stderr, flush=True)
time.sleep(float(os.environ.get("SLEEP", "0")))
if "--no-report" not in sys.argv:
    (folder / "summary.json").write_text("{}")
    (folder / "metrics.prom").write_text("x 1\\n")
print('{"clip_id": "c"}')
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """The environment in which the stand-in is matcher."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return environment(
        MATCHER_COMMAND=shlex.join([sys.executable, str(tmp_path / "stand_in.py")]),
        WORDS=str(tmp_path / "words"), PYTHONUNBUFFERED="1",
    )  # fmt: skip


def words_of(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "words").read_text().splitlines()]


def nightly(env: dict[str, str], *words: str | Path, cwd: Path | None = None) -> Ran:
    done = subprocess.run(
        [sys.executable, NIGHTLY, *map(str, words)], capture_output=True, text=True, env=env, cwd=cwd,
        timeout=300, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def said(line: str) -> str:
    """A line of the log without its time, which must be one."""
    when, text = line.split(" ", 1)
    assert datetime.fromisoformat(when).tzinfo is not None
    return text


def test_a_night_goes_through_and_says_each_step(tmp_path: Path, stand_in: dict[str, str]) -> None:
    reports, metrics = tmp_path / "reports", tmp_path / "metrics"
    metrics.mkdir()
    config = tmp_path / "m.toml"
    ran = nightly(
        stand_in, "--store", "s3://b/p", "--reports", reports, "--metrics", metrics, "--config", config,
        "--accept", "--skip", "verify",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.objects == [{"clip_id": "c"}]
    folder = reports / TODAY().isoformat()
    assert words_of(tmp_path) == [
        ["relink", "--store", "s3://b/p", "--report", str(folder), "--wait", "3600.0", "--config",
         str(config), "--accept", "--skip", "verify"]
    ]  # fmt: skip
    assert [re.sub(r"\d+ s\b", "N s", said(line)) for line in ran.lines] == [
        f"night begins: store s3://b/p, report {folder}",
        "begun",
        "relink ended with exit code 0 after N s",
        f"metrics written to {metrics}",
        "reports of the last 30 days kept, 0 older ones deleted",
        f"night done in N s; report: {folder}",
    ]
    assert (folder / "night.log").read_text() == ran.err
    assert (metrics / "program_matcher.prom").read_text() == "x 1\n"
    own = (metrics / "program_matcher_nightly.prom").read_text()
    values = dict(line.split() for line in own.splitlines() if not line.startswith("#"))
    assert values["matcher_nightly_exit_code"] == "0"
    assert abs(float(values["matcher_nightly_finished_timestamp_seconds"]) - time.time()) < 60
    assert sorted(path.name for path in metrics.iterdir()) == [
        "program_matcher.prom", "program_matcher_nightly.prom",
    ]  # fmt: skip


def test_the_environment_says_what_the_words_do_not(tmp_path: Path, stand_in: dict[str, str]) -> None:
    (tmp_path / "m").mkdir()
    env = stand_in | {
        "MATCHER_STORE": "/s", "MATCHER_REPORTS": str(tmp_path / "r"),
        "MATCHER_METRICS_DIR": str(tmp_path / "m"),
    }  # fmt: skip
    assert nightly(env).code == 0
    assert words_of(tmp_path)[0][1:3] == ["--store", "/s"]
    assert (tmp_path / "m" / "program_matcher.prom").is_file()
    assert nightly(env, "--store", "/t").code == 0
    assert words_of(tmp_path)[1][1:3] == ["--store", "/t"]
    # A second report of the day does not take the place of the first.
    names = sorted(path.name for path in (tmp_path / "r").iterdir() if path.is_dir())
    assert names == [TODAY().isoformat(), f"{TODAY().isoformat()}.2"]


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_matchers_exit_code_is_passed_on_with_where_to_look(
    tmp_path: Path, stand_in: dict[str, str], code: int
) -> None:
    ran = nightly(stand_in | {"CODE": str(code)}, "--reports", tmp_path / "r")
    assert ran.code == code
    folder = tmp_path / "r" / TODAY().isoformat()
    assert said(ran.lines[-1]).startswith(f"night ended with exit code {code} after ")
    assert ran.lines[-1].endswith(f"look at: {folder / 'summary.json'}, {folder / 'night.log'}")


def test_a_night_that_ended_early_leaves_the_last_metrics_and_tells_of_itself(
    tmp_path: Path, stand_in: dict[str, str]
) -> None:
    """The next one of the day goes on in its folder, which holds a log alone."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "program_matcher.prom").write_text("old 1\n")
    words = ("--reports", tmp_path / "r", "--metrics", tmp_path / "m")
    ran = nightly(stand_in | {"CODE": "2"}, *words, "--no-report")
    assert ran.code == 2
    assert (tmp_path / "m" / "program_matcher.prom").read_text() == "old 1\n"
    assert "exit_code 2\n" in (tmp_path / "m" / "program_matcher_nightly.prom").read_text()
    assert nightly(stand_in, *words).code == 0
    (folder,) = (path for path in (tmp_path / "r").iterdir() if path.is_dir())
    assert (folder / "night.log").read_text().count("night begins") == 2


def test_metrics_that_cannot_be_written_are_a_line_and_exit_4(
    tmp_path: Path, stand_in: dict[str, str]
) -> None:
    ran = nightly(stand_in, "--reports", tmp_path / "r", "--metrics", tmp_path / "none")
    assert ran.code == 4
    assert [line for line in ran.lines if "none/program_matcher" in line and "No such file" in line]
    assert nightly(stand_in | {"CODE": "2"}, "--reports", tmp_path / "r", "--metrics", "/dev/null").code == 2


def test_the_reports_of_the_last_days_are_kept_and_nothing_else_is_touched(
    tmp_path: Path, stand_in: dict[str, str]
) -> None:
    """Days that have some: after a month without a night there are still as many."""
    reports = tmp_path / "reports"
    days = [(TODAY() - timedelta(days=30 + back)).isoformat() for back in range(5)]
    for name in (*days, f"{days[1]}.2", f"{days[4]}.2", "notes", "2026-01-0", "x2026-01-01"):
        (reports / name).mkdir(parents=True)
        (reports / name / "summary.json").write_text("{}")
    (reports / "2001-01-01").write_text("a file of somebody's")
    ran = nightly(stand_in, "--reports", reports, "--keep", "3")
    assert ran.code == 0
    assert {path.name for path in reports.iterdir()} == {
        TODAY().isoformat(), days[0], days[1], f"{days[1]}.2", "notes", "2026-01-0", "x2026-01-01",
        "2001-01-01", ".nightly.lock",
    }  # fmt: skip
    assert "4 older ones deleted" in ran.err
    for wrong in ("0", "-1", "many"):
        assert nightly(stand_in, "--reports", reports, "--keep", wrong).code == 2


def started(env: dict[str, str], *words: str | Path) -> subprocess.Popen[str]:
    """A night that has come to matcher."""
    child = subprocess.Popen(
        [sys.executable, NIGHTLY, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=env,
    )  # fmt: skip
    assert child.stderr is not None
    while "begun" not in (line := child.stderr.readline()):
        assert line, "ended early"
    return child


def test_a_second_night_says_so_in_one_line_and_leaves(tmp_path: Path, stand_in: dict[str, str]) -> None:
    """Also while the first is past matcher; and the lock goes with a night that is killed."""
    first = started(stand_in | {"SLEEP": "20"}, "--reports", tmp_path / "r")
    second = nightly(stand_in, "--reports", tmp_path / "r")
    assert second.code == 75
    (line,) = second.lines
    assert "another night is running" in line
    assert len(words_of(tmp_path)) == 1
    first.kill()
    first.wait()  # what it had started sleeps on, and holds its pipes
    for pipe in (first.stdout, first.stderr):
        if pipe is not None:
            pipe.close()
    assert nightly(stand_in, "--reports", tmp_path / "r").code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_night_that_is_told_to_stop_lets_matcher_end(
    tmp_path: Path, stand_in: dict[str, str], number: signal.Signals
) -> None:
    child = started(stand_in | {"SLEEP": "60"}, "--reports", tmp_path / "r")
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    lines = [said(line) for line in err.splitlines()]
    assert lines[:2] == [f"told to stop ({number.name}); passing it on", "matcher: interrupted"]
    assert lines[-1].startswith("night ended with exit code 130")


def test_what_it_cannot_begin_with_is_one_line(tmp_path: Path, stand_in: dict[str, str]) -> None:
    (tmp_path / "file").write_text("")
    ran = nightly(stand_in, "--reports", tmp_path / "file")
    assert (ran.code, len(ran.lines)) == (2, 1)
    assert "file" in ran.err
    bare = {name: value for name, value in stand_in.items() if name != "MATCHER_COMMAND"} | {
        "PATH": "/nowhere"
    }
    copy = tmp_path / "elsewhere" / "scripts" / "nightly"
    copy.parent.mkdir(parents=True)
    shutil.copy(NIGHTLY, copy)
    done = subprocess.run(
        [sys.executable, copy, "--reports", tmp_path / "r"],
        capture_output=True,
        text=True,
        env=bare,
        check=False,
    )
    assert done.returncode == 3
    assert "found no matcher" in done.stderr
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------- with matcher itself


def test_the_brake_is_passed_on_and_accepted(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    """Eleven links that would go: nothing is committed, and the words say what to do."""
    rows = [f"c{i},{library.clips['p01']}" for i in range(11)]
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join(["clip_id,path", *rows]))
    assert matcher("link", "--store", store, "--manifest", manifest).code == 0
    assert matcher("remove", "--store", store, "p01").code == 0
    env = environment(MATCHER_COMMAND=MATCHER)
    reports = tmp_path / "reports"
    ran = nightly(env, "--store", store, "--reports", reports)
    assert ran.code == 2
    (brake,) = (line for line in ran.lines if "--accept" in line)
    assert said(brake).startswith("matcher: 11 of 11 links would change")
    assert str(reports / TODAY().isoformat() / "summary.json") in ran.lines[-1]
    linked = [link["program_id"] for link in matcher("links", "--store", store, "--json").objects]
    assert linked == ["p01"] * 11
    ran = nightly(env, "--store", store, "--reports", reports, "--accept")
    assert ran.code == 0, ran.err
    linked = [link["program_id"] for link in matcher("links", "--store", store, "--json").objects]
    assert linked == [None] * 11
    summary = json.loads((reports / f"{TODAY().isoformat()}.2" / "summary.json").read_text())
    assert summary["moving"] == 11


def test_a_store_that_another_writes_to_is_one_line(store: Path, tmp_path: Path) -> None:
    """Not a night: whoever it is, by name, when the time to wait is over."""
    from index.catalog import Catalog

    with Catalog.open(store).writing():
        ran = nightly(
            environment(MATCHER_COMMAND=MATCHER),
            "--store",
            store,
            "--reports",
            tmp_path / "r",
            "--wait",
            "0.1",
        )
    assert ran.code == 2
    (line,) = (line for line in ran.lines if "matcher: " in line)
    assert "the store is being written by process" in line


def test_the_service_runs_what_it_says(matcher: Run, library: Library, store: Path, tmp_path: Path) -> None:
    """Its ExecStart and its environment, with the paths of this machine."""
    assert matcher("link", "--store", store, library.clips["p01"]).code == 0
    unit = (DEPLOY / "program-matcher-nightly.service").read_text()
    for path in ("/var/lib/program-matcher", "/var/cache/program-matcher"):
        unit = unit.replace(path, str(tmp_path))
    unit = unit.replace("/opt/program-matcher", str(ROOT))
    values: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            values.setdefault(name, []).append(value)
    env = environment(MATCHER_COMMAND=MATCHER) | dict(word.split("=", 1) for word in values["Environment"])
    (command,) = values["ExecStart"]
    done = subprocess.run(
        shlex.split(command), capture_output=True, text=True, env=env, cwd=values["WorkingDirectory"][0],
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports" / TODAY().isoformat() / "summary.json").is_file()
    assert {
        "NoNewPrivileges": ["true"],
        "ProtectSystem": ["strict"],
        "TimeoutStartSec": ["infinity"],
    }.items() <= (values.items())


# ---------------------------------------------------------------- what starts it


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("needs systemd-analyze")
    names = ["program-matcher-nightly.service", "program-matcher-nightly.timer"]
    for name in names:
        text = (DEPLOY / name).read_text().replace("/opt/program-matcher", str(ROOT))
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [tool, "verify", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    # What it says of the machine's own units is none of ours.
    ours = [line for line in done.stderr.splitlines() if "program-matcher" in line]
    assert (done.returncode, ours) == (0, [])
    timer = (DEPLOY / names[1]).read_text()
    assert "Persistent=true" in timer
    (when,) = re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)
    assert subprocess.run([tool, "calendar", when], capture_output=True, check=False).returncode == 0


def test_the_cron_job_of_kubernetes_says_what_it_must(tmp_path: Path, stand_in: dict[str, str]) -> None:
    """And what it runs runs."""
    yaml: Any = pytest.importorskip("yaml")
    (job,) = yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert_cron_fields(job["spec"]["schedule"].split())
    spec = job["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a podFailurePolicy wants it so
    (container,) = pod["containers"]
    (rule, _) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert set(rule["onExitCodes"]["values"]) == {2, 3, 4, 75}
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    env = {entry["name"]: entry["value"].replace("/data", str(tmp_path)) for entry in container["env"]}
    words = [word.replace("/opt/program-matcher", str(ROOT)) for word in container["command"]]
    done = subprocess.run(words, capture_output=True, text=True, env=stand_in | env, check=False)
    assert done.returncode == 0, done.stderr
    assert words_of(tmp_path)[0][1:3] == ["--store", str(tmp_path / "store")]


def assert_cron_fields(fields: list[str]) -> None:
    """Minute, hour, day, month, weekday."""
    bounds = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    assert len(fields) == len(bounds)
    for value, (low, high) in zip(fields, bounds, strict=True):
        assert value == "*" or low <= int(value) <= high


def test_the_cron_line_of_the_page_runs(tmp_path: Path, stand_in: dict[str, str]) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (line,) = (line for line in page.splitlines() if re.match(r"\d+ \d+ \* \* \* /", line))
    *fields, command = line.split(" ", 5)
    assert_cron_fields(fields)
    assert "%" not in command  # cron would end the line there
    command = command.replace("/opt/program-matcher", str(ROOT)).replace(
        "/var/lib/program-matcher", str(tmp_path)
    )
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, env=stand_in, check=False
    )
    assert done.returncode == 0, done.stderr
    assert words_of(tmp_path)[0][1:3] == ["--store", str(tmp_path / "store")]
    assert (tmp_path / "reports" / TODAY().isoformat() / "night.log").is_file()


@pytest.mark.parametrize("page", ["operations.md", "capacity.md"])
def test_the_pages_name_files_that_are_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = set(re.findall(r"`((?:scripts|docs|matcher|index|eval|tests)/[\w./-]+)`", text))
    named |= {f"docs/{link}" for link in re.findall(r"\]\(((?!http)[^)#]+)", text)}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
