# shellcheck shell=sh disable=SC2154
# Moves a new clone to the folder that its repository names.
#
# Set beforehand: from, the folder where it is, with its tilde; url, when an interrupted create may have moved it already, the address of
# its repository: only that one is moved then.

from=$(of "$from_64") url=$(of "$url_64")
# shellcheck disable=SC2088 # the tilde is ours
case $from in
'~/'*) from=$home/${from#??} ;;
/*) from=$root$from ;;
*) from=$home/$from ;;
esac

is_done() {
  [ -n "$url" ] && { [ -e "$folder/.git" ] || [ "$(as_user git -C "$from" config --get remote.origin.url)" != "$url" ]; }
}

main() {
  if [ -e "$from/.git" ] && ! is_done; then
    [ -z "$(ls -A "$folder" 2>/dev/null)" ] || refuse "the folder $path is not empty"
    as_user mkdir -p "$(dirname "$folder")" 2>/dev/null ||
      { mkdir -p "$(dirname "$folder")" && chown "$user:" "$(dirname "$folder")"; } ||
      refuse "the folder $path cannot be made"
    rmdir "$folder" 2>/dev/null
    as_user mv -T "$from" "$folder" || refuse "the folder $path cannot be made"
  fi
  echo end
}
main </dev/null
