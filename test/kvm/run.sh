#!/bin/bash
# npm run test:kvm: the tests on real libvirt, in namespaces (namespace.sh) that nothing outside sees.
#   run.sh [--install] [arguments of vitest]
#     The tests, or those of the named files. --install installs missing packages (Debian, Ubuntu), as CI=true does.
#   run.sh --if-possible [arguments of vitest]
#     The same; where they cannot run, it prints why, and succeeds.
#   run.sh --run CMD...
#     Any command in the namespaces, with a home and the sizes that the tests use:
#     test/kvm/run.sh --run node bin/agent-swarm.js init-base --from debian-packages --profile minimal
#     test/kvm/run.sh --run npm run bench -- f
# AGENT_SWARM_TEST_STATE names a folder that keeps images and machines from one run to the next. While
# `run.sh --run sleep infinity` holds the namespaces open, every other run enters them and finds the same guests.
set -u
cd "$(dirname "$0")/../.." || exit 1
refusal=1
[ "${1:-}" != --if-possible ] || { shift; refusal=0; }
words=$*
# cannot REASON [WAY_ON]
cannot() {
  [ "$refusal" = 1 ] || echo "Left out: $words" >&2
  printf '%s\n' "$@" >&2
  exit "$refusal"
}
[ "$(id -u)" = 0 ] || cannot 'The tests on real libvirt need root: sudo npm run test:kvm'
[ "$(uname -m)" = x86_64 ] || cannot 'The machines of the tests on real libvirt are x86-64.'
unshare --mount --net --pid --fork true || cannot 'The tests on real libvirt need namespaces of their own, which this system does not let root make.'

# The project's Node, since the system's may be too old.
export PATH=$PWD/node_modules/.bin:$PATH
read -ra packages < <(node -e "import('./providers/kvm/systems.ts').then(({ debianPackages: { run, build } }) => console.log([...run, ...build, 'genisoimage', 'rsync'].join(' ')))")
[ "${#packages[@]}" -gt 2 ] || exit 1
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "${CI:-}" = true ] || [ "${1:-}" = --install ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || exit 1
  else
    cannot "Missing: ${missing[*]}" 'Install them with: sudo npm run test:kvm -- --install'
  fi
fi
[ "${1:-}" = --install ] && shift

state=${AGENT_SWARM_TEST_STATE:-$(mktemp -d /var/tmp/agent-swarm-kvm.XXXXXX)}
if [ -z "${AGENT_SWARM_TEST_STATE:-}" ]; then
  trap 'test/kvm/namespace.sh "$state" --wipe' EXIT
fi
if [ "${1:-}" = --run ]; then
  shift
  set -- env AGENT_SWARM_HOME="$state/home" AGENT_SWARM_PROVIDER=kvm AGENT_SWARM_MEMORY_MIB=1024 AGENT_SWARM_DISK_GIB=8 "$@"
else
  set -- node node_modules/vitest/vitest.mjs run --config test/kvm/vitest.config.ts "$@"
fi
# The home of the tests has a name that must be quoted wherever ssh and virsh get it.
AGENT_SWARM_TEST_HOME="$state/test home 100%" test/kvm/namespace.sh "$state" "$@" &
child=$!
trap 'kill -TERM $child 2>/dev/null' INT TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code
