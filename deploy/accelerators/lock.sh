#!/usr/bin/env bash
# Resolve gpu.txt and tpu.txt again, after `make lock`: what each needs beyond deploy/locks/worker.txt, by hash.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
worker=deploy/locks/worker.txt

lock() { # NAME REQUIREMENT TITLE
    local file=deploy/accelerators/$1.txt resolved
    mapfile -t there < <(sed -nE 's/^([a-z0-9._-]+)==.*/--no-emit-package=\1/p' "$worker")
    resolved=$(.venv/bin/uv pip compile - --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_36 \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --constraints "$worker" "${there[@]}" <<<"$2")
    printf '# %s\n# Made by deploy/accelerators/lock.sh from: %s\n%s\n' "$3" "$2" "$resolved" >"$file"
}

lock gpu 'tensorflow[and-cuda]==2.20.0' "NVIDIA's libraries; TensorFlow's wheel has the CUDA kernels itself."
lock tpu 'tensorflow-tpu==2.20.0' "TensorFlow's files built with the TPU's kernels, and the TPU's runtime."
