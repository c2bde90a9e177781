#!/usr/bin/env bash
# What only a GPU can say of the kernels: numbers, races, memory. Most of its time is compilation, on
# all cores. Logs go to the folder given. Needs compute-sanitizer, pytest and pytest-xdist.
#
#     bash experiments/cuda/on_gpu.sh LOGS
set -uo pipefail
cd "$(dirname "$0")/../.."
logs=${1:?a folder for the logs}
mkdir -p "$logs"
# A plugin that happens to be installed must not turn its own warnings into our errors.
tests=(python3 -m pytest -q -m "" --tb=short -p no:cacheprovider -p no:benchmark)

"${tests[@]}" -n "$(($(nproc) * 2 / 3))" -rf tests/cuda_parity*.py >"$logs/parity.log" 2>&1 &
cells=$(python3 -c "from seqlab.cells import NAMES; print('-tanh or '.join(NAMES) + '-tanh')")
for tool in memcheck racecheck synccheck; do
  compute-sanitizer --tool "$tool" --error-exitcode 1 "${tests[@]}" \
    tests/cuda_parity.py tests/cuda_parity_arrays.py \
    -k "(test_any_size and 9 and float32 and ($cells)) or (test_selective_scan and 35 and float32)" \
    >"$logs/$tool.log" 2>&1 &
done
python3 -m seqlab verify --backend cuda >"$logs/verify.log" 2>&1 &
failed=0
for job in $(jobs -p); do wait "$job" || failed=1; done
tail -n 2 "$logs"/*.log
exit "$failed"
