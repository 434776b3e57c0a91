# shellcheck shell=sh disable=SC2154
# Replaces our settings of git, when the link that they name has ended, or another one has opened.
#
# Set beforehand: gitconfig.

main() {
  of "$gitconfig_64" | write_file "$library/gitconfig" 644 || refuse 'git in the machine cannot be set up'
  echo end
}
main </dev/null
