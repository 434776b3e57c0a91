#!/bin/sh
step postgres full 'PostgreSQL with pgvector, active after boot'

# Pin: Debian's index of sources, dists/trixie/main/source/Sources.xz, which is signed; package pgvector.
PGVECTOR_VERSION=0.8.0
PGVECTOR_SHA256=867a2c328d4928a5a9d6f052cd3bc78c7d60228a9b914ad32aa3db88e9de27b0
# The key ACCC4CF8 of apt.postgresql.org: docker-library/postgres on GitHub, 15/bookworm/Dockerfile.
PGDG_FINGERPRINT=B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8

set_up_postgres() {
  # What is there needs no network.
  { [ -n "$(postgres_major)" ] && has_pgvector; } || get_postgres
  turn_on postgresql || true
}

get_postgres() {
  case ${SWARM_POSTGRES:-distribution} in
    distribution) ;;
    pgdg)
      repository=${SWARM_PGDG_APT:-https://apt.postgresql.org/pub/repos/apt}
      add_repository pgdg "$repository" SWARM_PGDG_APT "${SWARM_PGDG_KEY:-$repository/ACCC4CF8.asc}" \
        "${SWARM_PGDG_FINGERPRINTS:-$PGDG_FINGERPRINT}" "$(os_codename)-pgdg"
      ;;
    *) die "SWARM_POSTGRES is \"$SWARM_POSTGRES\"" 'Use distribution or pgdg.' ;;
  esac
  [ -n "$(postgres_major)" ] || apt_install postgresql
  has_pgvector || install_pgvector
}

# The newest installed one.
postgres_major() { for folder in /usr/lib/postgresql/*/bin/postgres; do [ -e "$folder" ] && echo "$folder" | cut -d / -f 5; done | sort -n | tail -n 1; }
has_pgvector() { [ -e "/usr/share/postgresql/$(postgres_major)/extension/vector.control" ]; }

install_pgvector() {
  package=postgresql-$(postgres_major)-pgvector
  if is_package "$package"; then apt_install "$package"; else build_pgvector; fi
}

# Debian 12 has no package of it. postgresql-server-dev-15 would install clang and LLVM (834 MB), and all that is needed of it are
# the headers. No -march=native: the image runs on other processors too.
build_pgvector() {
  major=$(postgres_major)
  need curl gcc
  [ -e /usr/include/stdio.h ] || apt_install libc6-dev
  url=${SWARM_PGVECTOR_URL:-${SWARM_APT_MIRROR:-http://deb.debian.org/debian}/pool/main/p/pgvector/pgvector_$PGVECTOR_VERSION.orig.tar.gz}
  build=$DOWNLOADS/pgvector
  mkdir -p "$build/headers"
  fetch "$url" "$build/pgvector.tar.gz" SWARM_PGVECTOR_URL
  check "$build/pgvector.tar.gz" pgvector sha256 "$PGVECTOR_SHA256" \
    'Debian publishes it in its index of sources (dists/trixie/main/source/Sources.xz, package pgvector).'
  (cd "$build/headers" && run_apt "the headers of PostgreSQL from $(apt_source)" "Without the step: --skip $current_step" \
    download "postgresql-server-dev-$major")
  dpkg-deb -x "$build/headers/postgresql-server-dev-$major"_*.deb "$build/headers"
  tar -xzf "$build/pgvector.tar.gz" -C "$build" --no-same-owner --strip-components=1
  gcc -O2 -fPIC -shared -fno-math-errno -ftree-vectorize -fassociative-math -fno-signed-zeros -fno-trapping-math \
    -I "$build/headers/usr/include/postgresql/$major/server" -o "$build/vector.so" "$build"/src/*.c
  extension=/usr/share/postgresql/$major/extension
  install -m 644 "$build/vector.so" "/usr/lib/postgresql/$major/lib/vector.so"
  install -m 644 "$build"/sql/vector--*--*.sql "$extension/"
  install -m 644 "$build/sql/vector.sql" "$extension/vector--$PGVECTOR_VERSION.sql"
  install -m 644 "$build/vector.control" "$extension/vector.control"
}

psql_as_postgres() { runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

prove_postgres() {
  cd /
  major=$(postgres_major)
  if is_booted; then
    systemctl is-enabled --quiet postgresql || { echo 'postgresql.service is not on at boot' >&2; return 1; }
    until_answers 60 systemctl is-active --quiet "postgresql@$major-main" || { echo "postgresql@$major-main.service is not active" >&2; return 1; }
    query_vectors
  else
    pg_ctlcluster "$major" main start >&2
    attempt query_vectors
    pg_ctlcluster "$major" main stop >&2
    return "$code"
  fi
}

query_vectors() {
  psql_as_postgres -c 'drop database if exists swarm_verify' -c 'create database swarm_verify' 2>/dev/null
  answer=$(psql_as_postgres -d swarm_verify <<'SQL'
create extension vector;
create table item (id int, place vector(3));
insert into item values (1, '[1,1,1]'), (2, '[2,2,2]'), (3, '[9,9,9]');
create index on item using hnsw (place vector_l2_ops);
set enable_seqscan = off;
explain select id from item order by place <-> '[1,1,2]' limit 2;
select id from item order by place <-> '[1,1,2]' limit 2;
select pg_encoding_to_char(encoding) from pg_database where datname = 'swarm_verify';
SQL
)
  psql_as_postgres -c 'drop database swarm_verify'
  case $answer in *'Index Scan using item_place_idx'*) ;; *) echo "the query did not use the index: $answer" >&2; return 1 ;; esac
  [ "$(echo "$answer" | tail -n 3 | one_line)" = '1 2 UTF8' ] || { echo "the query answered: $(echo "$answer" | one_line)" >&2; return 1; }
  echo "PostgreSQL $(postgres_major) found the nearest vectors by an index (UTF8)"
}
