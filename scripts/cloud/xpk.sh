#!/usr/bin/env bash
# Cells on Cloud TPU slices with XPK (https://github.com/AI-Hypercomputer/xpk), on a cluster made by `xpk cluster create`:
#   scripts/cloud/xpk.sh CLUSTER v5litepod-16 5000000
# A bucket attached with `xpk storage` as /data holds the trained run as `run` and gets the shards in `atlas`. JAX tells each
# host its number; XPK restarts the workload when the slice is taken away, and it goes on with what is missing.
set -euo pipefail
cluster=$1 kind=$2 cells=$3
exec xpk workload create --cluster "$cluster" --workload scrdit --tpu-type "$kind" --max-restarts 100 \
  --base-docker-image python:3.12 --script-dir . \
  --command "pip install '.[tpu]' && scrdit sample /data/run --cells $cells --out /data/atlas --dtype bfloat16 --distributed"
