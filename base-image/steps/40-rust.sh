#!/bin/sh
step rust full 'Rust: rustc, cargo, rustfmt, clippy, and a C compiler to link'

# Pins of rustup-init: rust-lang/docker-rust on GitHub, stable/bookworm/slim/Dockerfile. static.rust-lang.org has them beside the
# files, as rustup-init.sha256.
RUSTUP_VERSION=1.28.2
RUSTUP_SHA256_AMD64=20a06e644b0d9bd2fbdbfd52d42540bdde820ea7df86e92e533c073da0cdd43c
RUSTUP_SHA256_ARM64=e3853c5a252fca15252d07cb23a1bdd9377a8c6f3efa01531109281ae47f841c
RUST_VERSION=1.90.0

set_up_rust() {
  if [ -z "$(missing rustc cargo cc)" ] && is_recent_rust; then return; fi
  case ${SWARM_RUST:-$(default_rust)} in
    distribution) rust_of_distribution ;;
    rustup) rust_of_rustup ;;
    *) die "SWARM_RUST is \"$SWARM_RUST\"" 'Use distribution or rustup.' ;;
  esac
}

# The edition of 2024 needs 1.85.
is_recent_rust() { rustc --version | awk '{ split($2, v, "."); exit !(v[1] > 1 || v[2] >= 85) }'; }

# Ubuntu 24.04 has 1.75.
default_rust() { case $(os_id) in ubuntu) echo rustup ;; *) echo distribution ;; esac; }

rust_of_distribution() {
  # Debian 12 has 1.63 under the plain names, and a recent one for its browsers under these.
  if [ "$(os_id) $(os_version)" = 'debian 12' ]; then
    apt_install rustc-web cargo-web rustfmt-web rust-web-clippy gcc libc6-dev
  else
    apt_install rustc cargo rustfmt rust-clippy gcc libc6-dev
  fi
}

# rustup checks what it downloads by the manifests of the same server.
rust_of_rustup() {
  server=${SWARM_RUST_SERVER:-https://static.rust-lang.org}
  case $(architecture) in
    amd64) target=x86_64-unknown-linux-gnu sum=$RUSTUP_SHA256_AMD64 ;;
    arm64) target=aarch64-unknown-linux-gnu sum=$RUSTUP_SHA256_ARM64 ;;
    *) die "no Rust for the architecture $(architecture)" ;;
  esac
  need curl
  [ -n "$(command -v cc || true)" ] || apt_install gcc libc6-dev
  file=$DOWNLOADS/rustup-init
  fetch "$server/rustup/archive/$RUSTUP_VERSION/$target/rustup-init" "$file" SWARM_RUST_SERVER
  check "$file" rustup sha256 "$sum" "static.rust-lang.org publishes it beside the file, as rustup-init.sha256."
  chmod 755 "$file"
  version=${SWARM_RUST_VERSION:-$RUST_VERSION}
  RUSTUP_DIST_SERVER=$server RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo \
    "$file" -y --quiet --no-modify-path --profile minimal --component rustfmt --component clippy --default-toolchain "$version" >&2 ||
    die "$server: rustup could not install Rust $version" \
      "Give a mirror that this machine reaches (SWARM_RUST_SERVER), or use the distribution's Rust: SWARM_RUST=distribution"
  # The toolchain's own programs, which need no setting, unlike rustup's stand-ins for them.
  ln -sf /usr/local/rustup/toolchains/"$version-$target"/bin/* /usr/local/bin/
}

prove_rust() {
  cd "$work"
  export CARGO_HOME="$work/cargo"
  cargo init --quiet --vcs none --name verified verified
  cd verified
  answer=$(cargo run --quiet --offline)
  [ "$answer" = 'Hello, world!' ] || { echo "the program answered \"$answer\"" >&2; return 1; }
  echo "a program was compiled and run with $(rustc --version)"
}
