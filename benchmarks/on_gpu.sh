#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What only a GPU can tell, the most important first, within LIMIT seconds: run it again to go on where it ended.
#
#     benchmarks/on_gpu.sh                  # on one GPU, all parts
#     benchmarks/on_gpu.sh price replay     # these only
#
# Each part leaves OUT/PART.json (or .log) and is not run again once it is whole. SOURCE: recordings, for the part adapt.
set -u
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin} DEVICE=${DEVICE:-cuda} CHECKPOINT=${CHECKPOINT:-random-7b} OUT=${OUT:-on_gpu} LIMIT=${LIMIT:-530}
ACTIONS=${ACTIONS:-60} REPEATS=${REPEATS:-20} TRACE=${TRACE:-benchmarks/results/decoders_libero_object_small.json}
PARTS=(graphs price replay transformers batches int8 fp8 int4 adapt)
mkdir -p "$OUT"

bench() {       # its name, what it prices
    local part=$1; shift
    "$BIN/vla-sd" bench decode --checkpoint "$CHECKPOINT" --device "$DEVICE" --actions "$ACTIONS" --repeats "$REPEATS" \
        --json "$OUT/$part.part.json" "$@" && mv "$OUT/$part.part.json" "$OUT/$part.json"
}

part() {
    case $1 in
        graphs) "$BIN/python" -m pytest -q -p no:cacheprovider test/policy/test_cuda_graphs.py ;;
        price) bench price ;;                                       # passes beside the device's measured floors
        replay) bench replay --replay "$TRACE" ;;                   # the very passes of the closed loop
        transformers) bench transformers --against transformers ;;
        batches) bench batches --batch 1,2,4,8 ;;
        int8|fp8|int4) bench "$1" --quantization "$1" ;;
        adapt) "$BIN/vla-sd" adapt --checkpoint "$CHECKPOINT" --device "$DEVICE" --source "$SOURCE" --output "$OUT/adapted" \
            --most 300 --observations 30 --head-steps 20 --drafter-steps 20 --processes 1 ;;
        *) echo "there is no part '$1': choose of ${PARTS[*]}" >&2; return 2 ;;
    esac
}

export -f part bench
export BIN DEVICE CHECKPOINT OUT ACTIONS REPEATS TRACE SOURCE=${SOURCE:-}
failed=0
for name in "${@:-${PARTS[@]}}"; do
    [[ " ${PARTS[*]} " == *" $name "* ]] || { part "$name"; exit 2; }
    [[ $name == adapt && -z $SOURCE ]] && { echo "adapt: left out, SOURCE names no recordings"; continue; }
    [[ -e $OUT/$name.done ]] && { echo "$name: done before"; continue; }
    left=$((LIMIT - SECONDS))
    ((left > 20)) || { echo "$name: no time left, run it again"; failed=1; break; }
    begun=$SECONDS
    if timeout -k 5 "$left" bash -c "part $name" > "$OUT/$name.log" 2>&1; then
        touch "$OUT/$name.done"; echo "$name: $((SECONDS - begun)) s"
    else
        failed=1; echo "$name: failed after $((SECONDS - begun)) s, see $OUT/$name.log: $(tail -n 1 "$OUT/$name.log")"
    fi
done
# the very projection of these passes, by the floors that were measured here, and its error
if [[ -e $OUT/price.json && ! -e $OUT/projected.json ]]; then
    "$BIN/vla-sd" bench decode --checkpoint "$CHECKPOINT" --measured "$OUT/price.json" --replay "$TRACE" \
        --json "$OUT/projected.json" > "$OUT/projected.log" 2>&1 || failed=1
fi
exit $failed
