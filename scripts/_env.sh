# Sourced by scripts/demo, scripts/test and .ci/run: sets `root`, and makes or completes $root/.venv.
# MATCHER_PYTHON names the interpreter to use; else the first of these that is new enough.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
python=
for candidate in ${MATCHER_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    # Asked, not looked up: a pyenv shim may be there and still not run.
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "$0: found no Python 3.11 to 3.14 (tried: ${MATCHER_PYTHON:-python3, python3.11 … python3.14}); install one or name it in MATCHER_PYTHON" >&2
    exit 3
fi
"$python" "$root/scripts/_env.py" || exit $?
