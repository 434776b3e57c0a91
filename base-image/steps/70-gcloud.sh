#!/bin/sh
step gcloud full 'gcloud, the command line of Google Cloud'

# The keys in https://packages.cloud.google.com/apt/doc/apt-key.gpg: kubernetes/release on GitHub, issue 3102. Of the second, the
# signer of Google's Artifact Registry, Mozilla publishes the same fingerprint (support.mozilla.org, "Install Firefox on Linux").
GCLOUD_FINGERPRINTS='A362B822F6DEDC652817EA46B53DC80D13EDEF05 35BAA0B33E9EB396F59CA838C0BA5CE6DC6315A3'

set_up_gcloud() {
  [ -n "$(missing gcloud)" ] || return 0
  add_gcloud_repository
  apt_install google-cloud-cli
}

add_gcloud_repository() {
  repository=${SWARM_GCLOUD_APT:-https://packages.cloud.google.com/apt}
  add_repository gcloud "$repository" SWARM_GCLOUD_APT "${SWARM_GCLOUD_KEY:-$repository/doc/apt-key.gpg}" \
    "${SWARM_GCLOUD_FINGERPRINTS:-$GCLOUD_FINGERPRINTS}" cloud-sdk
}

prove_gcloud() {
  export CLOUDSDK_CONFIG="$work/gcloud" CLOUDSDK_CORE_DISABLE_PROMPTS=1
  gcloud config set project swarm-verify >/dev/null 2>&1
  answer=$(gcloud config get-value project 2>/dev/null)
  [ "$answer" = swarm-verify ] || { echo "gcloud answered \"$answer\"" >&2; return 1; }
  echo "$(gcloud --version 2>/dev/null | head -n 1) kept a setting"
}
