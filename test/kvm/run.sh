#!/bin/bash
# npm run test:kvm: the tests on real libvirt, in a private place (namespace.sh) that nothing outside sees.
#   run.sh [--install] [vitest's words]   the tests, or those of the files named. --install installs what is missing
#                                         (Debian, Ubuntu); with CI=true that is the default
#   run.sh --run CMD...                   any command in the place, with AGENT_SWARM_HOME and the sizes that the tests use:
#                                         test/kvm/run.sh --run node bin/agent-swarm.js init-base --from debian-packages
#                                         test/kvm/run.sh --run npm run bench -- f
# AGENT_SWARM_TEST_STATE keeps the place's files, its base image among them, from one run to the next. While a
# `run.sh --run sleep infinity` holds it open, every other run enters it and finds the guests of the one before.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ "$(id -u)" = 0 ] || { echo "The tests on real libvirt need root: sudo npm run test:kvm" >&2; exit 1; }

# Node as the project has it: the system's own may be too old.
export PATH=$PWD/node_modules/.bin:$PATH
packages=$(node -e "import('./providers/kvm/systems.ts').then(({ debianPackages: { run, build } }) => console.log([...run, ...build, 'genisoimage', 'rsync'].join(' ')))") || exit 1
missing=
for package in $packages; do dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"; done
if [ -n "$missing" ]; then
  if [ "${CI:-}" = true ] || [ "${1:-}" = --install ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null || exit 1
  else
    echo "Missing:$missing" >&2
    echo "Install them with: sudo npm run test:kvm -- --install" >&2
    exit 1
  fi
fi

state=${AGENT_SWARM_TEST_STATE:-$(mktemp -d /var/tmp/agent-swarm-kvm.XXXXXX)}
# What is not ours goes to vitest.
[ "${1:-}" = --install ] && shift
cleanup() { [ -n "${AGENT_SWARM_TEST_STATE:-}" ] || test/kvm/namespace.sh "$state" --wipe; }
trap cleanup EXIT
if [ "${1:-}" = --run ]; then
  shift
  set -- env AGENT_SWARM_HOME="$state/home" AGENT_SWARM_PROVIDER=kvm AGENT_SWARM_MEMORY_MIB=1024 AGENT_SWARM_DISK_GIB=8 "$@"
else
  set -- node node_modules/vitest/vitest.mjs run --config test/kvm/vitest.config.ts "$@"
fi
AGENT_SWARM_TEST_HOME=$state/home test/kvm/namespace.sh "$state" "$@" &
child=$!
trap 'kill -TERM $child 2>/dev/null' INT TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code
