#!/bin/bash
# npm run test:long: everything that takes longer than `npm test` may: the whole crash matrix, soak, all hostile texts and orders of
# events, old and large stores, real agents, base images, the container image, and what takes long on real libvirt.
#   AGENT_SWARM_TEST_SEED=N        the seed of everything that is random; printed first, and today's date without one
#   AGENT_SWARM_TEST_PLAYED=FOLDER remembers which steps and points passed with this seed: another run goes on there. Without it,
#                                  a folder of the seed in /var/tmp, which is removed when all has passed
#   AGENT_SWARM_TEST_ROUNDS=N      fewer rounds a point of the crash matrix
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PATH=$PWD/node_modules/.bin:$PATH
export AGENT_SWARM_TEST_LONG=1
seed=${AGENT_SWARM_TEST_SEED:-$(date +%Y%m%d)}
played=${AGENT_SWARM_TEST_PLAYED:-/var/tmp/agent-swarm-long-$seed}
mkdir -p "$played" || exit 1
echo "seed $seed, what passed is in $played. To go on after an interruption: AGENT_SWARM_TEST_SEED=$seed AGENT_SWARM_TEST_PLAYED=$played npm run test:long"
# What this run has done: a folder for each step that was begun, with "failed" or "left-out" in it.
begun=$(mktemp -d)
lanes=()
# A lane is a process group, so that all of it ends with this.
set -m
trap 'for lane in "${lanes[@]}"; do kill -TERM -- -"$lane" 2>/dev/null; done; wait; rm -rf "$begun"' EXIT
trap 'exit 130' INT TERM
# A test with all its samples takes up to two hours; one that hangs ends all the same.
long() { vitest run --testTimeout=7200000 "$@"; }

# step NAME COMMAND...: unless it passed before, or the other lane has begun it. What it prints is kept in NAME.log. It has not passed
# where it left something out, since another run may have what was missing.
step() {
  local name=$1 log=$played/$1.log since=$SECONDS
  shift
  mkdir "$begun/$name" 2>/dev/null || return
  if [ -e "$played/passed-$seed-$name" ]; then
    echo "$name: passed before"
    return
  fi
  echo "$name: begins; it prints to $log"
  if ! "$@" >"$log" 2>&1; then
    touch "$begun/$name/failed"
    tail -n 60 "$log"
    echo "$name: FAILED after $((SECONDS - since)) s"
  elif grep -q '^Left out: ' "$log"; then
    touch "$begun/$name/left-out"
    echo "$name: left out"
  else
    touch "$played/passed-$seed-$name"
    echo "$name: passed after $((SECONDS - since)) s"
  fi
}

# The points that the crash matrix has played are in $played, too: an interrupted step goes on where it was.
crash() { AGENT_SWARM_TEST_SEED=$seed AGENT_SWARM_TEST_PLAYED=$played long "$@"; }
# These count their cases from 0: their seed says where to begin.
counted() (unset AGENT_SWARM_TEST_SEED; long "$@")
# on_libvirt GENERATION FILE...: each test file is a step, on the libvirt of the lane, whose machines stay for the next file: a boot
# takes longest.
on_libvirt() {
  local generation=$1 file
  shift
  for file in "$@"; do step "$generation-$(basename "$file" .test.ts)" "$generation" "$file"; done
}
libvirt() { file_on_libvirt libvirt '' test/kvm/run.sh "$1"; }
# The next generation of libvirt and QEMU.
export AGENT_SWARM_TEST_DEBIAN13=${AGENT_SWARM_TEST_DEBIAN13:-$played/debian13}
debian13() { file_on_libvirt debian13 "$AGENT_SWARM_TEST_DEBIAN13" test/kvm/debian13.sh "$1"; }
# file_on_libvirt GENERATION ROOT SCRIPT FILE: ROOT is the folder in which SCRIPT sees its system. The base image is built by the lane
# that needs it first, and copied by the other.
file_on_libvirt() {
  local generation=$1 root=$2 script=$3 file=$4 state=$played/$1-$lane image=$played/$1-image
  (
    flock 9 && [ -e "$image.built" ] || {
      rm -rf "$root$image"
      AGENT_SWARM_TEST_STATE=$image bash "$script" --if-possible --run node bin/agent-swarm.js init-base --from debian-packages --profile minimal &&
        { [ ! -e "$root$image" ] || touch "$image.built"; }
    }
  ) 9>"$image.lock" || return
  # What a file that failed or was cut off left is not for the next one. The last of it stays for whoever looks why.
  if [ -e "$image.built" ] && [ ! -e "$root$state/whole" ]; then
    rm -rf "$root$state-failed"
    [ ! -e "$root$state" ] || mv "$root$state" "$root$state-failed"
    cp -a "$root$image" "$root$state" || return
  fi
  rm -f "$root$state/whole"
  AGENT_SWARM_TEST_SEED=$seed AGENT_SWARM_TEST_PLAYED=$played AGENT_SWARM_TEST_STATE=$state bash "$script" --if-possible "$file" || return
  [ ! -e "$root$state" ] || touch "$root$state/whole"
}

# Two lanes, as a machine that boots or a process that is waited for leaves processors idle. Each takes the next step.
lane() {
  local lane=$1
  step crash crash test/crash/actions.test.ts test/crash/databases.test.ts test/crash/publish.test.ts
  step processes crash test/crash/commands.process.test.ts test/crash/up.process.test.ts
  step providers long test/providers/tart/killed.process.test.ts test/providers/tart/cli.process.test.ts test/providers/tart/traps.process.test.ts test/providers/aws/conformance.process.test.ts test/providers/aws/kill.test.ts test/providers/hyperv/conformance.process.test.ts test/providers/hyperv/killed.process.test.ts
  step concurrency counted test/crash/concurrency.test.ts test/crash/soak.test.ts
  step texts counted test/work-bound.test.ts test/bot/permutations.test.ts test/handlers/as-github-shows.process.test.ts
  step agents env AGENT_SWARM_TEST_AGENTS=1 vitest run test/runner/agent/real-agents.process.test.ts
  step work counted test/runner/rescue/work-matrix.process.test.ts test/runner/rescue/new-work.process.test.ts test/runner/rescue/rescue.process.test.ts test/runner/rescue/restore.process.test.ts test/runner/rescue/elsewhere.process.test.ts test/runner/prune/prune.process.test.ts test/runner/project/project.process.test.ts test/runner/git-gateway/hostile.process.test.ts test/e2e/demo.process.test.ts
  step stores counted test/bot/bursts.process.test.ts test/store/old-store.process.test.ts
  step images vitest run test/base-image/golden.process.test.ts
  step container bash test/image/run.sh
  on_libvirt libvirt \
    test/kvm/agent.test.ts test/kvm/golden.test.ts test/kvm/crash.test.ts test/kvm/crash-forks.test.ts test/kvm/full-disk.test.ts \
    test/kvm/images.test.ts test/kvm/giveback.test.ts test/kvm/service.test.ts test/kvm/fork.test.ts test/kvm/live.test.ts \
    test/kvm/pool.test.ts test/kvm/session.test.ts test/kvm/sleep.test.ts test/kvm/faults.test.ts test/kvm/reconcile.test.ts test/kvm/demo.test.ts
  # In addition what every run has on the first generation.
  on_libvirt debian13 \
    test/kvm/fork.test.ts test/kvm/live.test.ts test/kvm/pool.test.ts test/kvm/session.test.ts test/kvm/conformance.test.ts \
    test/kvm/demo.test.ts test/kvm/faults.test.ts test/kvm/interrupted.test.ts test/kvm/isolation.test.ts \
    test/kvm/layers.test.ts test/kvm/machines.test.ts test/kvm/reach.test.ts test/kvm/reconcile.test.ts test/kvm/sleep.test.ts \
    test/kvm/states.test.ts test/kvm/delete.test.ts
  true
}
for lane in 0 1; do
  lane $lane &
  lanes+=($!)
done
# A lane that died has not ended its step.
failed=
for lane in "${lanes[@]}"; do wait "$lane" || failed=' a lane'; done

# named MARK: the steps that this run marked so.
named() { cd "$begun" && find . -name "$1" -printf ' %h' | sed 's|\./||g'; }
failed=$failed$(named failed)
left_out=$(named left-out)
[ -z "$failed" ] || { echo "seed $seed failed:$failed" >&2; exit 1; }
if [ -n "$left_out" ]; then
  echo "seed $seed: passed, but for what could not run here, in:$left_out"
  grep -h '^Left out: ' "$played"/*.log | sort -u
  exit
fi
[ -n "${AGENT_SWARM_TEST_PLAYED:-}" ] || rm -r "$played"
echo "seed $seed: all passed"
