#!/usr/bin/env bash
# Cells on a spot slice of Cloud TPU VMs, made anew whenever it is taken away, until all cells are there:
#   scripts/cloud/tpu-vm.sh NAME ZONE v5litepod-16 BUCKET 5000000
# BUCKET, without gs://, holds the trained run as `run` and gets the shards in `atlas`. To be kept running on a machine that
# stays, from the root of a clone, of which the last commit is installed; started again it goes on, and it deletes the slice
# in the end. VERSION is the slice's software, POLL the seconds between looks at it.
set -euo pipefail
name=$1 zone=$2 kind=$3 bucket=$4 cells=$5
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
version=${VERSION:-v2-alpha-tpuv5-lite} poll=${POLL:-60}

queued() {
  gcloud compute tpus queued-resources "$1" "$name" --zone "$zone" --quiet "${@:2}"
}

on_all_workers() {
  gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --quiet --worker all --command "$1"
}

# JAX tells each host its number.
install="mkdir -p data && (mountpoint -q data || gcsfuse --implicit-dirs $bucket data) && pip install './scrdit.tar.gz[tpu]'"
work="PATH=\$HOME/.local/bin:\$PATH; exec scrdit sample data/run --cells $cells --out data/atlas --distributed --batch-size 256"

work_there() {
  git archive --output "$folder/scrdit.tar.gz" HEAD \
    && gcloud compute tpus tpu-vm scp "$folder/scrdit.tar.gz" "$name": --zone "$zone" --quiet --worker all \
    && on_all_workers "$install" && on_all_workers "$work"
}

while true; do
  # Nothing is said of a slice that is not there.
  state=$(queued describe --format 'value(state.state)' 2>/dev/null || true)
  echo "$name: ${state:-not there}"
  case $state in
    "")
      queued create --node-id "$name" --accelerator-type "$kind" --runtime-version "$version" --spot
      ;;
    ACTIVE)
      status=0
      work_there || status=$?
      if [ "$status" -eq 0 ]; then
        queued delete --force
        exit 0
      fi
      sleep "$poll" # until it shows whether the slice was taken away
      if [ "$(queued describe --format 'value(state.state)' || true)" = ACTIVE ]; then
        echo "$name is there, but the command failed with status $status; the slice is kept" >&2
        exit "$status"
      fi
      ;;
    SUSPENDED | FAILED)
      queued delete --force
      ;;
  esac
  sleep "$poll"
done
