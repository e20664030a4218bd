#!/usr/bin/env bash
# Installs what nextvlad needs: npm packages (in a clone only), TensorFlow's library, and the binding between the two.
# Safe to repeat: completed steps are skipped. An installed package runs it as `nextvlad setup`.
#   NEXTVLAD_DEVICE=cpu|gpu   which build of TensorFlow to download (default: gpu if an NVIDIA driver is present, else cpu)
#   PYTHON=python3            the Python whose pip downloads TensorFlow's wheel (not needed afterwards)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
digest() { cat "$@" | sha256sum | cut -c1-16; }

python=${PYTHON:-python3}
# The published package does not contain tsconfig.json.
if [ -f tsconfig.json ]; then is_clone=true; else is_clone=false; fi

# --- device
device=${NEXTVLAD_DEVICE:-}
if [ -z "$device" ]; then
  if [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null 2>&1; then device=gpu; else device=cpu; fi
fi
case $device in cpu | gpu) ;; *) fail "invalid NEXTVLAD_DEVICE (expected cpu or gpu, found '$device')" ;; esac

# --- prerequisites: all problems are reported at once
problems=()
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || problems+=("unsupported platform (expected Linux x86_64, found $(uname -s) $(uname -m))")
if ! command -v node >/dev/null 2>&1; then
  problems+=("node is missing: install Node.js 20, 22 or 24 (apt-get install nodejs, or nvm install 22)")
else
  node_major=$(node -p 'process.versions.node.split(".")[0]')
  { [ "$node_major" -ge 20 ] && [ "$node_major" -le 24 ]; } || problems+=("unsupported version of Node.js (expected 20, 22 or 24, found $(node --version)): nvm install 22")
fi
if $is_clone; then
  command -v npm >/dev/null 2>&1 || problems+=("npm is missing: install it (apt-get install npm)")
else
  mkdir -p .native 2>/dev/null && [ -w .native ] || problems+=("$PWD is not writable: run nextvlad setup as the user who installed nextvlad (sudo nextvlad setup)")
fi

packages_stamp=node_modules/.nextvlad-packages
packages_want=$(digest npm-shrinkwrap.json)
native=.native/$device
native_stamp=$native/.complete
native_want=$(digest "scripts/tensorflow/$device.txt" scripts/tensorflow/unpack.py)
binding_stamp=$native/.binding
# The CPU kernels are compiled once for each level of processors, and src/runtime/processor.ts chooses a build when they are loaded, so that this directory works
# on any x86-64 machine. scripts/tensorflow/processor.cc tests for the features that these flags allow; -mtune selects no instructions.
# Without -fno-trapping-math, g++ 12 does not vectorize the softmax with AVX2, which takes 2.7 times as long.
levels=(amx avx512vnni avx512 avxvnni avx2 v2)
declare -A level_flags
# Three levels differ from others in their instructions for bytes only, which are in native/integers.h: the files that do not include it are compiled
# once for these, which saves a quarter of the time.
declare -A level_without_bytes=([avxvnni]=avx2 [avx512vnni]=avx512 [amx]=avx512)
level_flags[v2]="-msse4.2 -mpopcnt"
level_flags[avx2]="-mavx2 -mfma -mtune=haswell"
level_flags[avxvnni]="${level_flags[avx2]} -mavxvnni"
level_flags[avx512]="-mavx2 -mfma -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mtune=icelake-server"
level_flags[avx512vnni]="${level_flags[avx512]} -mavx512vnni"
level_flags[amx]="${level_flags[avx512vnni]} -mamx-tile -mamx-int8"
binding_want="$native_want $packages_want $(digest scripts/setup.sh scripts/tensorflow/*.cc native/*.* native/gpu/*)"
have() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
bound() {
  local name
  have "$binding_stamp" "$binding_want" || return 1
  [ -f "$native/loopback.so" ] || return 1
  for name in tfjs_binding loader processor "${levels[@]/#/kernels-}"; do [ -f "$native/$name.node" ] || return 1; done
}

if ! have "$native_stamp" "$native_want"; then
  command -v "$python" >/dev/null 2>&1 || problems+=("$python is missing: it downloads TensorFlow (apt-get install python3 python3-pip)")
  ! command -v "$python" >/dev/null 2>&1 || "$python" -m pip --version >/dev/null 2>&1 || problems+=("pip is missing for $python (apt-get install python3-pip)")
fi
if ! bound; then
  command -v g++ >/dev/null 2>&1 || problems+=("g++ is missing: it compiles the binding (apt-get install g++)")
fi
if [ ${#problems[@]} -gt 0 ]; then
  printf 'setup: error: %s\n' "${problems[@]}" >&2
  exit 1
fi

# --- npm packages
if $is_clone && ! have "$packages_stamp" "$packages_want"; then
  say "installing npm packages"
  npm ci --include=dev --no-audit --no-fund --loglevel=error >&2
  printf %s "$packages_want" >"$packages_stamp"
fi

# --- TensorFlow's library and headers, from its wheels (pip checks the hashes)
if ! have "$native_stamp" "$native_want"; then
  say "downloading TensorFlow ($device build: $(grep -c sha256 "scripts/tensorflow/$device.txt") wheels)"
  rm -rf "$native"
  mkdir -p "$native"
  wheels=$(mktemp -d "$native/wheels.XXXXXX")
  trap 'rm -rf "$wheels"' EXIT
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --require-hashes -r "scripts/tensorflow/$device.txt" -d "$wheels" >&2 ||
    fail "pip cannot download TensorFlow: see its message above (required: pip 20.3, glibc 2.27, free disk space, access to the package index)"
  say "unpacking into $native"
  "$python" scripts/tensorflow/unpack.py "$wheels" "$native"
  rm -rf "$wheels"
  printf %s "$native_want" >"$native_stamp"
fi

# --- the binding: it uses only Node-API, so one build serves all versions of Node.js
ln -sfn "$device" .native/current
if ! bound; then
  # npm installs them in this package or next to it.
  tfjs=$(node -p 'path.dirname(require.resolve("@tensorflow/tfjs-node-gpu/package.json"))') &&
    node_api=$(node -p 'require("node-api-headers").include_dir') ||
    fail "npm packages are missing: reinstall nextvlad (npm i -g --ignore-scripts nextvlad-*.tgz)"
  # g++ 10 and older do not know AVX-VNNI and AMX: these levels then compute as avx2 and avx512vnni do.
  g++ -mavxvnni -fsyntax-only -x c++ /dev/null 2>/dev/null || level_flags[avxvnni]=${level_flags[avx2]}
  g++ -mamx-int8 -fsyntax-only -x c++ /dev/null 2>/dev/null || level_flags[amx]=${level_flags[avx512vnni]}
  objects=$(mktemp -d "$native/objects.XXXXXX")
  trap 'rm -rf "$objects"' EXIT
  jobs=()
  add() { # add FOLDER FLAGS SOURCES: plans to compile each source to an object in FOLDER
    local source
    mkdir "$objects/$1"
    for source in "${@:3}"; do jobs+=("$objects/$1/$(basename "$source" .cc).o" "$2" "$source"); done
  }
  compile() { # compile OBJECT FLAGS SOURCE
    local flags=$2
    [ "$device" != gpu ] || flags+=" -DNEXTVLAD_GPU"
    # shellcheck disable=SC2086
    g++ -std=c++17 -march=x86-64 -fPIC -w -Wno-psabi -DNAPI_VERSION=8 $flags -I "$node_api" -I "$tfjs" -I "$native/tensorflow/include" -c -o "$1" "$3"
  }
  link() { # link NAME OBJECTS LIBRARIES: links a shared library
    g++ -shared -o "$native/$1" -L "$native/tensorflow" "${@:2}" || fail "cannot link $1: see the linker's message above"
  }
  # The slowest first, so that all processors finish at about the same time. Files that include TensorFlow's C++ headers are not compiled for a level, because
  # their Eigen does not compile with AVX512-FP16. Those headers take most of the time, and only the GPU build needs them.
  add gpu -O2 native/gpu/*.cc
  add binding -O2 "$tfjs/binding/tfjs_backend.cc" "$tfjs/binding/tfjs_binding.cc" scripts/tensorflow/{process,cluster,collectives,uploads,allocator}.cc
  for level in "${levels[@]}"; do
    sources=(native/*.cc)
    [ -z "${level_without_bytes[$level]:-}" ] || mapfile -t sources < <(grep -lE '"(panels|integers).h"' native/*.cc)
    add "$level" "-O3 -fopenmp-simd -fno-math-errno -fno-trapping-math ${level_flags[$level]}" "${sources[@]}"
  done
  add loading -O2 scripts/tensorflow/loader.cc scripts/tensorflow/processor.cc scripts/tensorflow/loopback.cc
  say "compiling $((${#jobs[@]} / 3)) C++ files, $(nproc) at a time (140 s of CPU time, a few minutes on slow machines)"
  SECONDS=0
  export -f compile
  export native tfjs node_api device
  printf '%s\0' "${jobs[@]}" |
    xargs -0 -P "$(nproc)" -n 3 bash -c 'compile "$@" || exit 255' compile || fail "cannot compile the binding: see the compiler's message above"
  for level in "${!level_without_bytes[@]}"; do cp --no-clobber "$objects/${level_without_bytes[$level]}"/*.o "$objects/$level/"; done
  # Also those of older versions.
  rm -f "$native"/*.node
  link loader.node "$objects/loading/loader.o" -pthread
  link processor.node "$objects/loading/processor.o"
  link loopback.so "$objects/loading/loopback.o" -ldl
  link tfjs_binding.node "$objects"/binding/*.o -Wl,--wrap=TFE_NewContext,--wrap=TFE_Execute,--wrap=TF_NewTensor -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,"\$ORIGIN/tensorflow"
  for level in "${levels[@]}"; do
    link "kernels-$level.node" "$objects/$level"/*.o "$objects"/gpu/*.o -l:libtensorflow_framework.so.2 \
      -Wl,-rpath,"\$ORIGIN/tensorflow:\$ORIGIN/nvidia/cuda_nvrtc/lib"
  done
  say "compiled in $SECONDS s; testing a matrix product"
  node scripts/smoke.cjs >&2
  printf %s "$binding_want" >"$binding_stamp"
fi
say "ready (Node.js $(node --version), TensorFlow for $device)"
