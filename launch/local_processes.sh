#!/usr/bin/env bash
# Runs one training as several processes on this machine: launch/local_processes.sh 2 --config=… --workdir=…
# Each process takes its share of the GPUs (CUDA_VISIBLE_DEVICES); on a CPU, of virtual devices (XLA_FLAGS).
set -euo pipefail
processes=$1
shift
port=${PORT:-$((20000 + RANDOM % 20000))}
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT INT TERM
for ((i = 0; i < processes; i++)); do
  if ((gpus)); then
    share=$((gpus / processes))
    CUDA_VISIBLE_DEVICES=$(seq -s, $((i * share)) $(((i + 1) * share - 1))) \
      python -m vision_jax.main --coordinator="127.0.0.1:$port" --num_processes="$processes" --process_id="$i" "$@" &
  else
    python -m vision_jax.main --coordinator="127.0.0.1:$port" --num_processes="$processes" --process_id="$i" "$@" &
  fi
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
