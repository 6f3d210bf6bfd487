#!/bin/sh
# Compile mmcv with its operations, which only object detection needs, as a wheel for one Python.
#
# usage: tools/build_mmcv.sh PYTHON [--path]
#     PYTHON  has PyTorch, setuptools<81, wheel, ninja and psutil installed
#     --path  only print the path of the wheel
#
# The wheel is kept in $MMSELFSUP_INVP_CACHE (default .cache) for this version of Python and PyTorch.
# Environment: CXX (default c++), MAX_JOBS, FORCE_CUDA=1 for the CUDA operations.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$1

device=cpu
[ "${FORCE_CUDA:-0}" = 1 ] && device=cuda
version=$(sed -n 's/^mmcv==//p' "$root/requirements/locked-detection.txt")
tags=$("$python" -c '
import platform, sys, torch
print(f"torch-{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}")
')
folder=${MMSELFSUP_INVP_CACHE:-$root/.cache}/mmcv/$tags-$device
wheel() { find "$folder" -maxdepth 1 -name "mmcv-$version-*.whl" 2>/dev/null; }

if [ "${2:-}" = --path ]; then
    wheel
    exit
fi
[ -z "$(wheel)" ] || exit 0

compiler=${CXX:-c++}
if ! command -v "${compiler%% *}" >/dev/null; then
    echo "No C++ compiler: ${compiler%% *} was not found. Install one:" >&2
    echo "    Debian, Ubuntu:  sudo apt install g++" >&2
    echo "    Fedora, RHEL:    sudo dnf install gcc-c++" >&2
    echo "    macOS:           xcode-select --install" >&2
    echo "or name one:  make detection CXX=clang++" >&2
    exit 1
fi
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if [ ! -f "$headers/Python.h" ]; then
    echo "$headers/Python.h is missing. Install the headers of this Python (python3.x-dev on Debian" >&2
    echo "and Ubuntu, python3.x-devel on Fedora and RHEL)." >&2
    exit 1
fi
if [ $device = cuda ] && [ -z "${CUDA_HOME:-}" ] && ! command -v nvcc >/dev/null; then
    echo "FORCE_CUDA=1 needs the CUDA toolkit: nvcc was not found and CUDA_HOME is not set." >&2
    exit 1
fi

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT INT TERM

# mmcv 2.0.1 asks for C++14, which the headers of PyTorch >= 2.1 refuse. The last -std counts.
printf '#!/bin/sh\nexec %s "$@" -std=c++17\n' "$compiler" >"$build/cxx17"
chmod +x "$build/cxx17"
export PATH="$build:$PATH" CXX=cxx17 NVCC_APPEND_FLAGS=-std=c++17 MMCV_WITH_OPS=1

# A compiler process needs up to 2 GB.
export MAX_JOBS="${MAX_JOBS:-$("$python" -c '
import os, psutil
print(max(1, min(os.cpu_count() or 1, psutil.virtual_memory().total // 2_000_000_000)))
')}"
# With a visible GPU the build would need nvcc.
[ $device = cuda ] || export CUDA_VISIBLE_DEVICES=

echo "==> Compiling mmcv $version with $MAX_JOBS jobs (4 to 33 minutes on 2 cores), log: $folder/build.log"
mkdir -p "$folder"
# pip's cache does not distinguish wheels by the version of PyTorch.
if ! "$python" -m pip wheel --no-build-isolation --no-deps --no-cache-dir --use-pep517 \
    --no-binary mmcv --wheel-dir "$build/wheel" "mmcv==$version" >"$folder/build.log" 2>&1; then
    tail -n 30 "$folder/build.log" >&2
    echo "mmcv was not compiled; see $folder/build.log. If memory ran out: make detection MAX_JOBS=1" >&2
    exit 1
fi
mv "$build"/wheel/*.whl "$folder/"
