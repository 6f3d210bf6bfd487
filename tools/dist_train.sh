#!/usr/bin/env bash
# Train in several processes on one or more machines, each with a GPU, or on CPUs where there is
# none: tools/dist_train.sh CONFIG PROCESSES [options of train.py]
# NNODES, NODE_RANK, PORT and MASTER_ADDR are read from the environment,
# and PYTHON, where it is not the `python` that is found.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2

"${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
