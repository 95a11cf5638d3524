#!/usr/bin/env bash
# Cells on Cloud TPU slices with XPK (https://github.com/AI-Hypercomputer/xpk), on a cluster made by `xpk cluster create`:
#   scripts/cloud/xpk.sh CLUSTER v5litepod-16 5000000 [more options of xpk workload create]
# A bucket attached as /data by `xpk storage attach scrdit` holds the trained run as `run` and gets the shards in `atlas`.
# JAX tells each host its number; XPK starts the workload anew when the slice is taken away (status 143), and it goes on with
# what is missing.
set -euo pipefail
cluster=$1 kind=$2 cells=$3
shift 3
exec xpk workload create --cluster "$cluster" --workload scrdit --tpu-type "$kind" --spot --storage scrdit \
  --max-restarts 100 --base-docker-image python:3.12 --script-dir . \
  --command "pip install '.[tpu]' && exec scrdit sample /data/run --cells $cells --out /data/atlas --distributed --batch-size 256" \
  "$@"
