#!/bin/sh
step python full 'Python 3.11 or later with Poetry and pipx'

set_up_python() {
  if [ -z "$(missing python3 poetry pipx)" ] && python3 -c 'import venv, trove_classifiers' 2>/dev/null; then return; fi
  # Poetry of Debian 12 does not depend on python3-trove-classifiers, and `poetry check` fails without it.
  apt_install python3 python3-venv python3-poetry python3-trove-classifiers pipx
}

prove_python() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(python3 --version) is older than 3.11" >&2; return 1; }
  cd "$work"
  # No keyring, which would wait for a desktop.
  export POETRY_VIRTUALENVS_IN_PROJECT=true PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring
  poetry new --quiet verified
  cd verified
  poetry check >/dev/null
  poetry install --quiet --no-interaction
  answer=$(.venv/bin/python -c 'import verified; print(6 * 7)')
  [ "$answer" = 42 ] || { echo "the project's Python answered \"$answer\"" >&2; return 1; }
  echo "$(python3 --version) imported a project that $(poetry --version 2>/dev/null | one_line) made, checked and installed"
}
