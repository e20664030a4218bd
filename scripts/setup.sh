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
binding=$native/tfjs_binding.node
binding_stamp=$native/.binding
# native/ is compiled for the processor of this machine, so a different one recompiles it.
processor=$(grep -m1 ^flags /proc/cpuinfo | sha256sum | cut -c1-16)
binding_want="$native_want $packages_want $processor $(digest scripts/setup.sh scripts/tensorflow/*.cc native/*.* native/gpu/*)"
have() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
bound() { have "$binding_stamp" "$binding_want" && [ -f "$binding" ] && [ -f "$native/mute.node" ] && [ -f "$native/kernels.node" ]; }

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
  objects=$(mktemp -d "$native/objects.XXXXXX")
  trap 'rm -rf "$objects"' EXIT
  # compile SOURCE: compiles one object. The kernels are compiled for this processor. Files that include TensorFlow's C++ headers are not, because their Eigen
  # does not compile with AVX512-FP16. Those headers take most of the time, and only the GPU build needs them.
  compile() {
    local source=$1 flags="-O2"
    case $source in native/*.cc) [[ $source == native/gpu/* ]] || flags="-O3 -march=native -fopenmp-simd -fno-math-errno" ;; esac
    [ "$device" != gpu ] || flags+=" -DNEXTVLAD_GPU"
    # shellcheck disable=SC2086
    g++ -std=c++17 -fPIC -w -Wno-psabi -DNAPI_VERSION=8 $flags -I "$node_api" -I "$tfjs" -I "$native/tensorflow/include" \
      -c -o "$objects/$(printf %s "$source" | tr / _).o" "$source"
  }
  link() { # link OUTPUT SOURCES -- LIBRARIES: links the objects of the sources to a shared library
    local output=$1 files=()
    shift
    while [ "$1" != -- ]; do
      files+=("$objects/$(printf %s "$1" | tr / _).o")
      shift
    done
    shift
    g++ -shared -o "$output" "${files[@]}" -L "$native/tensorflow" "$@"
  }
  backend=("$tfjs/binding/tfjs_backend.cc" "$tfjs/binding/tfjs_binding.cc" scripts/tensorflow/process.cc)
  # The slowest first, so that all processors finish at about the same time.
  kernels=(native/gpu/stream.cc native/assignment.cc native/byte_products.cc)
  for source in native/*.cc native/gpu/*.cc; do
    case " ${kernels[*]} " in *" $source "*) ;; *) kernels+=("$source") ;; esac
  done
  sources=("${kernels[@]}" "${backend[@]}" scripts/tensorflow/mute.cc)
  say "compiling ${#sources[@]} C++ files, $(nproc) at a time (25 s of CPU time, a minute or two on slow machines)"
  SECONDS=0
  export -f compile
  export native tfjs node_api objects device
  printf '%s\0' "${sources[@]}" |
    xargs -0 -P "$(nproc)" -n 1 bash -c 'compile "$1" || exit 255' compile || fail "cannot compile the binding: see the compiler's message above"
  link "$native/mute.node" scripts/tensorflow/mute.cc -- || fail "cannot link mute.node: see the linker's message above"
  link "$binding" "${backend[@]}" -- -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 \
    -Wl,-rpath,"\$ORIGIN/tensorflow" || fail "cannot link the binding: see the linker's message above"
  link "$native/kernels.node" "${kernels[@]}" -- -l:libtensorflow_framework.so.2 \
    -Wl,-rpath,"\$ORIGIN/tensorflow:\$ORIGIN/nvidia/cuda_nvrtc/lib" || fail "cannot link the kernels: see the linker's message above"
  say "compiled in $SECONDS s; testing a matrix product"
  node scripts/smoke.cjs >&2
  printf %s "$binding_want" >"$binding_stamp"
fi
say "ready (Node.js $(node --version), TensorFlow for $device)"
