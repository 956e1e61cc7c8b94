#!/usr/bin/env bash
# Every claim of the engine in one go, one after the other, on a machine that does nothing else; about three hours on two cores.
#   POEEM_DATA=data benchmarks/engine/all.sh [RUN TWIN [RUN_5]]     see task.py for the folders; left out, that claim is too
# Needs faiss-cpu, scann, hnswlib and matplotlib. Writes benchmarks/results/engine_*.json and .png, and both READMEs.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=PASSIVE
run() { echo "== $*"; python "benchmarks/engine/$@"; }
run rates.py
run bench.py
run bench.py --dim 128 --name engine_flat_128
run lists.py --threads 1 2 --rounds 25
run lists.py --dim 128 --threads 1 2 --name engine_lists_128
run nibbles.py
run threads.py
run survivors.py
run filters.py
run sizes.py
run bench.py --items 10000000 --bytes 8 16 32 --rounds 3 --name engine_flat_10m
run bench.py --items 10000000 --dim 128 --bytes 8 16 --rounds 3 --name engine_flat_10m_128
run lists.py --items 10000000 --lists 4096 --bytes 8 16 --threads 1 2 --name engine_lists_10m
run lists.py --items 10000000 --dim 128 --lists 4096 --bytes 8 16 --threads 1 2 --name engine_lists_10m_128
run opening.py
run encoding.py
run curves.py --items 200000 --lists 256 --threads 1 --rounds 3
POEEM_KERNEL=avx2 run curves.py --items 200000 --lists 256 --threads 1 --rounds 3 --rivals "faiss ivfpq" "faiss ivf, 4-bit fast scan" scann "scann, 4 times the leaves" --name engine_curves_avx2
run curves.py --threads 1 --rounds 3 --name engine_curves_1m
run curves.py --dim 128 --threads 1 --rounds 3 --name engine_curves_1m_128
run curves.py --items 10000000 --lists 4096 --threads 1 --rounds 2 --rivals "faiss ivfpq" "faiss ivf, 4-bit fast scan" scann --name engine_curves_10m
run curves.py --items 200000 --lists 256 --dim 128 --threads 1 --rounds 3 --name engine_curves_128
if [ -e "${POEEM_DATA:-data}/glove-6b-50d" ]; then
  run bench.py --data glove-6b-50d --bytes 10 25 --name engine_flat_glove
  run lists.py --data glove-6b-50d --bytes 10 25 --lists 512 --threads 1 2 --name engine_lists_glove
  run curves.py --data glove-6b-50d --bytes 25 --lists 512 --threads 1 --rounds 3 --name engine_curves_glove
  POEEM_KERNEL=avx2 run curves.py --data glove-6b-50d --bytes 25 --lists 512 --threads 1 --rounds 3 --rivals "faiss ivfpq" "faiss ivf, 4-bit fast scan" scann "scann, 4 times the leaves" --name engine_curves_glove_avx2
fi
if [ $# -ge 2 ]; then
  run task.py "$1" "$2"
  if [ $# -ge 3 ]; then run task.py "$3" "$2" --name engine_task_gowalla_5; fi  # poeem train gowalla --num-subspaces 5
fi
python benchmarks/readme.py
