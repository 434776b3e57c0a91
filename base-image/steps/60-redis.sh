#!/bin/sh
step redis full 'Redis on localhost, active after boot'

set_up_redis() {
  [ -z "$(missing redis-server redis-cli)" ] || apt_install redis-server
  turn_on redis-server || true
}

prove_redis() {
  if is_booted; then
    systemctl is-enabled --quiet redis-server || { echo 'redis-server.service is not on at boot' >&2; return 1; }
    until_answers 60 systemctl is-active --quiet redis-server || { echo 'redis-server.service is not active' >&2; return 1; }
    round_trip
  else
    redis-server --port 6379 --bind 127.0.0.1 --save '' --dir "$work" --daemonize yes --logfile "$work/redis.log" >/dev/null
    attempt round_trip
    redis-cli shutdown nosave >/dev/null 2>&1 || true
    return "$code"
  fi
}

round_trip() {
  until_answers 30 redis-cli ping || { echo 'Redis does not answer' >&2; return 1; }
  value=$$-$(date +%s)
  redis-cli set swarm:verify "$value" ex 60 >/dev/null
  answer=$(redis-cli get swarm:verify)
  redis-cli del swarm:verify >/dev/null
  [ "$answer" = "$value" ] || { echo "Redis gave back \"$answer\", not \"$value\"" >&2; return 1; }
  echo "Redis $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/') gave back what it was given"
}
