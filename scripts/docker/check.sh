#!/usr/bin/env bash
# Builds the Dockerfile without a Docker daemon, and runs the digits demo in the result: each stage is a chroot made by debootstrap, in which the RUN lines run.
# Needs root, debootstrap, 6 GB of disk space, and 10 to 25 minutes on two cores. The environment variable NEXTVLAD_DEVICE is the build argument.
#   scripts/docker/check.sh           in a temporary folder, removed afterwards
#   scripts/docker/check.sh FOLDER    in FOLDER, which is kept; a base system that is in it already is used again
set -euo pipefail
# Mounts in a namespace of their own end with this script.
[ -n "${IN_NAMESPACE:-}" ] || exec unshare --mount env IN_NAMESPACE=1 "$0" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'docker: %s\n' "$*"; }
fail() { say "error: $*" >&2; exit 1; }

if [ $# -gt 0 ]; then
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
else
  folder=$(mktemp -d)
  trap 'umount -l "$folder"/*/proc "$folder"/*/dev 2>/dev/null || true; rm -rf --one-file-system "$folder"' EXIT
fi

declare -A variables=() workdirs=()
root='' name=''

# Prints the folder of an image, made by debootstrap: debian:trixie-slim is Debian's smallest system, without documentation.
base_of() {
  local suite
  suite=$(sed -n 's/^debian:\([a-z]*\)-slim$/\1/p' <<<"$1")
  [ -n "$suite" ] || fail "unknown base image $1"
  if [ ! -f "$folder/$suite.complete" ]; then
    debootstrap --variant=minbase "$suite" "$folder/$suite" </dev/null >"$folder/debootstrap.log" || fail "see $folder/debootstrap.log"
    touch "$folder/$suite.complete"
  fi
  printf '%s\n' "$folder/$suite"
}

# Runs a command in the current stage, as `in_stage [--userspec=ID] COMMAND...`, with the build arguments and this machine's certificates: a registry may be
# reachable only through a proxy with its own.
in_stage() {
  local user=()
  case $1 in --userspec=*) user=("$1"); shift ;; esac
  chroot "${user[@]}" "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp DEBIAN_FRONTEND=noninteractive \
    NODE_EXTRA_CA_CERTS=/tmp/certificates.crt PIP_CERT=/tmp/certificates.crt ${https_proxy:+https_proxy="$https_proxy"} ${http_proxy:+http_proxy="$http_proxy"} \
    "${arguments[@]}" "$@"
}

start_stage() { # start_stage IMAGE NAME
  local base
  base=$(base_of "$1")
  name=$2 root=$folder/stage-$2
  umount -l "$root/proc" "$root/dev" 2>/dev/null || true
  rm -rf --one-file-system "$root"
  cp -a "$base" "$root"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  cp /etc/ssl/certs/ca-certificates.crt "$root/tmp/certificates.crt"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  workdirs[$name]=/
  arguments=()
}

copy() { # copy [--from=STAGE] SOURCE TARGET
  local from=''
  case $1 in --from=*) from=${1#--from=}; shift ;; esac
  if [ -n "$from" ]; then
    mkdir -p "$(dirname "$root$2")"
    cp -a "$folder/stage-$from$1" "$root$2"
  else
    [ "$1 $2" = ". ." ] || fail "COPY $1 $2 is not supported"
    tar --anchored --no-wildcards-match-slash --exclude-from=<(sed 's|^|./|' .dockerignore) -cf - . | tar -xf - -C "$root${workdirs[$name]}"
  fi
}

stages=0
entrypoint=''
arguments=()
while read -r instruction rest; do
  say "$instruction $rest"
  SECONDS=0
  case $instruction in
    FROM)
      read -r image _ stage <<<"$rest"
      start_stage "$image" "${stage:-$((++stages))}"
      ;;
    ARG)
      variable=${rest%%=*}
      arguments+=("$variable=${!variable:-${rest#*=}}")
      ;;
    WORKDIR)
      mkdir -p "$root$rest"
      workdirs[$name]=$rest
      ;;
    COPY)
      read -ra words <<<"$rest"
      copy "${words[@]}"
      ;;
    RUN)
      in_stage sh -c "cd '${workdirs[$name]}' && $rest" </dev/null >"$folder/run.log" 2>&1 || { tail -40 "$folder/run.log"; fail "RUN failed: see $folder/run.log"; }
      say "  $SECONDS s, $(du -smx "$root" | cut -f1) MB"
      ;;
    ENTRYPOINT) entrypoint=$(tr -d '["]' <<<"$rest") ;;
    *) fail "unknown instruction $instruction" ;;
  esac
done < <(sed -e '/^#/d; /^$/d' -e ':a; /\\$/ { N; s/\\\n//; ba }' Dockerfile)

# As `docker run --user 1000:1000 --volume FOLDER:/work IMAGE ARGUMENTS`.
image() { in_stage --userspec=1000:1000 "${environment[@]}" sh -c "cd '${workdirs[$name]}' && exec $entrypoint \"\$@\"" sh "$@" </dev/null; }
environment=()
chown 1000:1000 "$root${workdirs[$name]}"
configs=/usr/local/lib/node_modules/nextvlad/configs
say "nextvlad $(image --version) with Node.js $(in_stage node --version), as user $(in_stage --userspec=1000:1000 id -u)"
for program in npm g++ python3; do ! in_stage sh -c "command -v $program" || fail "the image contains $program"; done

SECONDS=0
image digits --out digits
image train --config $configs/digits.yaml --use-gpu auto --save-dir checkpoints --set TRAIN.filelist=digits/train.list --set VALID.filelist=digits/validate.list
# The level of this processor, then the lowest.
for level in '' v2; do
  environment=(${level:+NEXTVLAD_ISA=$level})
  image eval --weights checkpoints/best --filelist digits/validate.list --save-dir "results$level" 2>&1 | grep -E 'level|\[EVAL\] eval'
done
say "demo done in $SECONDS s"
say "ok"
