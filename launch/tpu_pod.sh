#!/bin/bash
# Trains on a Cloud TPU pod slice: asks for it, installs, starts one process
# per worker, and asks again when a spot slice was taken away.
#
#   TPU_NAME=mmae ZONE=europe-west4-b ACCELERATOR_TYPE=v5litepod-64 \
#   RUNTIME_VERSION=v2-alpha-tpuv5-lite \
#   launch/tpu_pod.sh --config=configs/mmae.py:vit_b16 \
#     --workdir=gs://my-bucket/mmae-b16 --config.data.dir=gs://my-bucket/tfds
#
# Everything after the file's name goes to launch/train.py on every worker.
# Run it where gcloud is installed and logged in, from the repository root; the
# slice gets the committed files (HEAD). Workdir and data must be gs:// paths
# that the slice's service account may write and read; prepare the data first
# (launch/prepare_data.py).
#
# To fill in, as environment variables:
#   TPU_NAME ZONE ACCELERATOR_TYPE RUNTIME_VERSION   the slice, see above
#   QUEUE_FLAGS    how it is paid for, default --spot; for instance --reserved
#   MAX_RESTARTS   default 100
#
# JAX finds the other workers by itself. A run that was stopped (exit 143), or
# whose slice has disappeared, is started again and continues from its
# checkpoint; an error of the run (exit 1 or 2) ends this script. Stopping this
# script does not stop the run: delete the slice with
#   gcloud compute tpus queued-resources delete $TPU_NAME --zone=$ZONE --force
set -euo pipefail

: "${TPU_NAME:?}" "${ZONE:?}" "${ACCELERATOR_TYPE:?}" "${RUNTIME_VERSION:?}"
read -r -a queue_flags <<<"${QUEUE_FLAGS:---spot}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

queued() {
  local verb="$1"
  shift
  gcloud compute tpus queued-resources "$verb" "$TPU_NAME" \
    --zone="$ZONE" --quiet "$@"
}

on_workers() {
  gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
    --command="$1"
}

# Returns when the slice is there, creating it as often as it takes.
wait_for_slice() {
  local state
  while true; do
    state="$(queued describe --format='value(state.state)' 2>/dev/null ||
      echo ABSENT)"
    echo "slice $TPU_NAME: $state"
    case "$state" in
      ACTIVE) return ;;
      ABSENT)
        queued create --node-id="$TPU_NAME" "${queue_flags[@]}" \
          --accelerator-type="$ACCELERATOR_TYPE" \
          --runtime-version="$RUNTIME_VERSION"
        ;;
      FAILED | SUSPENDED) queued delete --force ;;
    esac
    sleep "${POLL_SECONDS:-30}"
  done
}

# A run that a lost connection left behind would hold the chips; the brackets
# keep the pattern from matching the shell that runs it.
install='
pkill -TERM -f "[l]aunch/train[.]py" || true
while pgrep -f "[l]aunch/train[.]py" >/dev/null; do sleep 5; done
set -e
rm -rf mmae_jax && mkdir mmae_jax
tar -xzf mmae_jax.tar.gz -C mmae_jax
cd mmae_jax
python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --seed --python=3.11 .venv
. .venv/bin/activate
pip install --quiet -e ".[tpu]" "etils[epath-gcs]"'

# The exit codes are printed by the workers themselves: gcloud has one code
# for all of them.
printf -v arguments '%q ' "$@"
train="cd mmae_jax && . .venv/bin/activate && trap 'echo exit code \$?' EXIT &&
python launch/train.py --distributed=on $arguments"

git archive --format=tar.gz --output="$scratch/mmae_jax.tar.gz" HEAD
for ((attempt = 0; attempt <= ${MAX_RESTARTS:-100}; attempt++)); do
  wait_for_slice
  if gcloud compute tpus tpu-vm scp "$scratch/mmae_jax.tar.gz" \
    "$TPU_NAME:mmae_jax.tar.gz" --zone="$ZONE" --worker=all &&
    on_workers "$install"; then
    on_workers "$train" 2>&1 | tee "$scratch/log" || true
    if grep -qE 'exit code [12]$' "$scratch/log"; then
      echo "error: the run failed, see above" >&2
      exit 1
    fi
    if grep -q 'exit code 0$' "$scratch/log" &&
      ! grep -qE 'exit code [1-9]' "$scratch/log"; then
      echo "finished; the slice $TPU_NAME is still there"
      exit 0
    fi
  fi
  echo "the run was stopped: starting it again"
  sleep "${POLL_SECONDS:-30}"
done
echo "error: stopped more than MAX_RESTARTS=${MAX_RESTARTS:-100} times" >&2
exit 1
