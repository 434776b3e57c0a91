# shellcheck shell=sh
# Stops a setup whose create was cancelled.

main() {
  systemctl stop agent-swarm-setup.service || refuse 'setup cannot be stopped'
  echo end
}
main </dev/null
