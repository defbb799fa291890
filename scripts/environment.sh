# Sourced by the other scripts: makes .venv beside them from a lock file, once per lock.
# environment LOCK [DIRECTORY]: afterwards $python is that environment's interpreter.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "The recorder needs Python 3.11 or newer; none was found. Set PYTHON to one." >&2
  return 1
}

environment() {
  local lock=$1 directory=${2:-.venv} base stamp
  base=$(find_python)
  stamp=$(cat "$lock" pyproject.toml | "$base" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  python=$PWD/$directory/bin/python
  if [ "$(cat "$directory/$lock.installed" 2>/dev/null)" = "$stamp" ] && "$python" -c 'import recorder' 2>/dev/null; then
    return
  fi
  echo "Making the environment in $directory (first time, or the lock changed) …" >&2
  # Debian splits ensurepip off venv: there, the interpreter's own pip fills the environment.
  if ! "$base" -m venv "$directory" >/dev/null 2>&1; then
    rm -rf "$directory"
    "$base" -m venv --without-pip "$directory"
  fi
  local pip=("$python" -m pip)
  "$python" -m pip --version >/dev/null 2>&1 || pip=("$base" -m pip --python "$python")
  "${pip[@]}" install --quiet --disable-pip-version-check --require-hashes -r "$lock"
  "${pip[@]}" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  echo "$stamp" > "$directory/$lock.installed"
}
