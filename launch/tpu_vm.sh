#!/usr/bin/env bash
# Runs one training on all workers of a TPU VM (slice): launch/tpu_vm.sh NAME ZONE --config=… --workdir=/mnt/shared/runs/…
# The checkout and `pip install -e '.[tpu]'` are expected in ~/vision_jax on every worker.
set -euo pipefail
name=$1
zone=$2
shift 2
arguments=$(printf ' %q' "$@")
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
  --command="cd ~/vision_jax && python -m vision_jax.main --coordinator=auto$arguments"
