#!/bin/bash
# The container image of the bot: built by buildah from this checkout, on a base of Debian's packages with the project's Node, and
# run. As root; it takes minutes, and packages from Debian's mirror and npm's registry.
#   test/image/run.sh                  where it cannot run, it says why, and succeeds
# AGENT_SWARM_TEST_IMAGE_STATE names a folder that keeps the base and the layers.
set -eu
cd "$(dirname "$0")/../.."
cannot() { echo "Left out: the container image. $1" >&2; exit 0; }
[ "$(id -u)" = 0 ] || cannot 'It needs root.'
for program in buildah mmdebstrap; do
  command -v "$program" >/dev/null || cannot "Missing: $program. Install it with: apt-get install buildah mmdebstrap"
done
node=$PWD/node_modules/node/bin/node
[ -x "$node" ] || cannot 'Missing: the Node of npm ci.'

state=${AGENT_SWARM_TEST_IMAGE_STATE:-$(mktemp -d /var/tmp/agent-swarm-image.XXXXXX)}
mkdir -p "$state"
chmod 755 "$state"
container=
finish() {
  [ -z "$container" ] || builder rm "$container" >/dev/null 2>&1 || true
  [ -n "${AGENT_SWARM_TEST_IMAGE_STATE:-}" ] || rm -rf "$state"
}
trap finish EXIT
# No daemon, no network of its own, and no file system that a kernel must have.
builder() {
  local command=$1
  shift
  buildah --root "$state/layers" --runroot "$state/run" --storage-driver vfs "$command" "$@"
}
export BUILDAH_ISOLATION=chroot

base=localhost/agent-swarm-test-base
if ! builder inspect --type image "$base" >/dev/null 2>&1; then
  root=$state/root
  rm -rf "$root"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$root"
  install -m 755 "$node" "$root/usr/local/bin/node"
  mkdir -p "$root/usr/local/lib"
  npm install --silent --no-audit --no-fund --prefix "$root/usr/local/lib" npm@11
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  rm -f "$root/usr/local/lib"/package*.json
  # Where this host reaches the registry through a proxy that has a certificate of its own.
  [ -z "${NODE_EXTRA_CA_CERTS:-}" ] || install -m 644 "$NODE_EXTRA_CA_CERTS" "$root/etc/ssl/certs/ca-certificates.crt"
  container=$(builder from scratch)
  builder add --quiet "$container" "$root" / >/dev/null
  builder config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  [ -z "${NODE_EXTRA_CA_CERTS:-}" ] || builder config --env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "$container"
  builder commit --quiet --rm "$container" "$base" >/dev/null
  container=
  rm -rf "$root"
fi

image=localhost/agent-swarm-test-bot
# The form of Docker: the other one has no health check.
builder build --layers --format docker --pull-never --network host --build-arg BASE="$base" --tag "$image" .

fail() { echo "The container image: $1" >&2; exit 1; }
# inspected MEMBER...: of its configuration, as JSON.
inspected() {
  builder inspect --type image "$image" | "$node" -e '
let value = JSON.parse(require("node:fs").readFileSync(0)).Docker.config
for (const name of process.argv.slice(1)) value = value[name]
console.log(JSON.stringify(value))' "$@"
}
[ "$(inspected User)" = '"10001:10001"' ] || fail 'it does not run as a user of its own'
health=$(inspected Healthcheck Test)

container=$(builder from --pull-never "$image")
inside() { builder run --network host "$container" -- "$@"; }
[ "$(inside id -u)" = 10001 ] || fail 'a program in it runs as another user'
inside agent-swarm --version
inside sh -c '! touch /opt/agent-swarm/planted 2>/dev/null' || fail 'the bot could change its own program'
inside sh -c '! test -e /opt/agent-swarm/node_modules/vitest' || fail 'it has packages of development'
# Without settings it says what is missing, and ends.
inside agent-swarm bot 2>&1 | grep -q 'Neither GitHub nor Jira is configured' || fail 'without settings, it does not say so'

# Nothing listens on port 9: it is healthy all the same.
port=$((20000 + $$ % 20000))
inside env PORT="$port" HOST=127.0.0.1 GITHUB_TOKEN=ghp_0123456789abcdef0123456789abcdef0123 GITHUB_API_URL=http://127.0.0.1:9 \
  GITHUB_REPOSITORIES=acme/shop JIRA_PROJECTS=DROP AGENT_SWARM_RUNNER_TOKEN=a-token-of-no-runner-at-all \
  agent-swarm bot >"$state/bot.log" 2>&1 &
bot=$!
healthy=
for _ in $(seq 100); do
  # The check of the image itself.
  if inside env PORT="$port" node -e "$("$node" -p 'JSON.parse(process.argv[1]).at(-1)' "$health")"; then healthy=yes; break; fi
  kill -0 "$bot" 2>/dev/null || break
  sleep 0.5
done
[ -n "$healthy" ] || { cat "$state/bot.log" >&2; fail 'the bot in it is not healthy'; }
pid=$(pgrep -f "^node /usr/local/bin/agent-swarm bot$" | while read -r each; do
  grep -qz "^PORT=$port\$" "/proc/$each/environ" && echo "$each"; done | head -1)
kill -TERM "$pid"
wait "$bot" || fail 'the bot did not end with status 0 after SIGTERM'
inside test -e /data/bot.db || fail 'its database is not in /data'
echo 'The container image: built, healthy, and ended.'
