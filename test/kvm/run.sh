#!/bin/bash
# npm run test:kvm: the tests on real libvirt, in a private place (namespace.sh) that nothing outside sees.
#   --install   install what is missing (Debian, Ubuntu); with CI=true that is the default
# AGENT_SWARM_TEST_STATE keeps the place, with its base image, from one run to the next.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ "$(id -u)" = 0 ] || { echo "The tests on real libvirt need root: sudo npm run test:kvm" >&2; exit 1; }

packages=$(node -e "import('./providers/kvm/settings.ts').then(({ debianPackages: { run, build } }) => console.log([...run, ...build, 'genisoimage', 'rsync'].join(' ')))")
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
AGENT_SWARM_TEST_HOME=$state/home test/kvm/namespace.sh "$state" "$PWD/node_modules/.bin/node" node_modules/vitest/vitest.mjs run --config test/kvm/vitest.config.ts "$@" &
child=$!
trap 'kill -TERM $child 2>/dev/null' INT TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code
