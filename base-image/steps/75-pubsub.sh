#!/bin/sh
step pubsub full 'Emulator of Google Pub/Sub, ready to start: swarm-pubsub.service on 127.0.0.1:8085'

PUBSUB_JAR=/usr/local/share/swarm-pubsub/pubsub-emulator.jar

set_up_pubsub() {
  [ -n "$(command -v java || true)" ] || apt_install default-jre-headless
  need curl
  [ -e "$PUBSUB_JAR" ] || install_emulator
  cat >/usr/local/sbin/swarm-pubsub <<EMULATOR
#!/bin/sh
# A small heap and one compiler: the emulator of one machine. Java 17 does not know the archive of classes, and ignores it.
exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+IgnoreUnrecognizedVMOptions \\
  -XX:+AutoCreateSharedArchive "-XX:SharedArchiveFile=\${CACHE_DIRECTORY:-/tmp}/swarm-pubsub.jsa" \\
  -jar $PUBSUB_JAR --host=127.0.0.1 --port=8085
EMULATOR
  chmod 755 /usr/local/sbin/swarm-pubsub
  # The emulator listens long after its process has started. Active means that it answers.
  cat >/etc/systemd/system/swarm-pubsub.service <<'UNIT'
[Unit]
Description=Emulator of Google Pub/Sub
After=network.target

[Service]
ExecStart=/usr/local/sbin/swarm-pubsub
ExecStartPost=/usr/bin/timeout 150 sh -c "until curl -sf -o /dev/null http://127.0.0.1:8085/; do sleep 0.5; done"
TimeoutStartSec=160
SuccessExitStatus=143
DynamicUser=yes
CacheDirectory=swarm-pubsub

[Install]
WantedBy=multi-user.target
UNIT
  if is_booted; then systemctl daemon-reload; fi
}

# The package depends on a whole JDK with its graphics (255 MB), so only its jar is taken. apt-get checks its signature.
install_emulator() {
  add_gcloud_repository
  folder=$DOWNLOADS/pubsub
  mkdir -p "$folder"
  (cd "$folder" && run_apt "the emulator from $repository" "Without the step: --skip $current_step" download google-cloud-cli-pubsub-emulator)
  dpkg-deb -x "$folder"/google-cloud-cli-pubsub-emulator_*.deb "$folder"
  install -D -m 644 "$folder"/usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar "$PUBSUB_JAR"
}

prove_pubsub() {
  if is_booted; then
    was_active=$(systemctl is-active swarm-pubsub || true)
    systemctl start swarm-pubsub
    stop_emulator() { [ "$was_active" = active ] || systemctl stop swarm-pubsub; }
  else
    CACHE_DIRECTORY=$work /usr/local/sbin/swarm-pubsub >"$work/pubsub.log" 2>&1 &
    emulator=$!
    stop_emulator() { kill "$emulator"; }
    until_answers 150 curl -sf http://127.0.0.1:8085/ || { stop_emulator; one_line <"$work/pubsub.log" >&2; return 1; }
  fi
  attempt publish_and_pull
  stop_emulator
  return "$code"
}

pubsub() { curl -sSf -X "$1" -H 'Content-Type: application/json' -d "${3:-}" "http://127.0.0.1:8085/v1/projects/swarm-verify/$2"; }

publish_and_pull() {
  pubsub PUT topics/verify '{}' >/dev/null
  pubsub PUT subscriptions/verify-pull '{"topic": "projects/swarm-verify/topics/verify"}' >/dev/null
  pubsub POST topics/verify:publish '{"messages": [{"data": "c3dhcm0="}]}' >/dev/null
  answer=$(pubsub POST subscriptions/verify-pull:pull '{"maxMessages": 1}')
  pubsub DELETE subscriptions/verify-pull >/dev/null
  pubsub DELETE topics/verify >/dev/null
  case $answer in *c3dhcm0=*) ;; *) echo "the subscription answered: $answer" >&2; return 1 ;; esac
  echo 'a published message was pulled from the emulator over REST'
}
