# shellcheck shell=sh disable=SC2154
# Says the last bytes of the logs.
#
# Set beforehand: names, for example `setup start`; bytes, of each.

names=$(of "$names_64") bytes=$(of "$bytes_64")

main() {
  for name in $names; do
    [ ! -f "$state/$name.log" ] || say "$name" "$(tail -qc "$bytes" "$state/$name.log.1" "$state/$name.log" 2>/dev/null | tail -c "$bytes")"
  done
  echo end
}
main </dev/null
