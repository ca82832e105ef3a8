#!/usr/bin/env bash
# Installs programs with Debian's package manager. Each argument is program:package. A program that is on the PATH is not installed again.
#
#   scripts/install.sh varnishd:varnish redis-server:redis-server
#
# Several test runs may call this at the same time: a lock lets one install, and the next finds the programs. No service is left running.
set -uo pipefail
export PATH="$PATH:/usr/sbin:/usr/local/sbin" # servers are here, and the PATH of an ordinary user does not contain these folders

exec 9>"${TMPDIR:-/tmp}/sse-router-install-$(id -u).lock" && flock 9 || exit 1

packages=()
for wanted in "$@"; do
  command -v "${wanted%%:*}" >/dev/null || packages+=("${wanted#*:}")
done
[ ${#packages[@]} -gt 0 ] || exit 0

rights=()
[ "$(id -u)" = 0 ] || rights=(sudo -n)

# RUNLEVEL=1: no service is started. 9>&-: a process that stays in the background does not hold the lock.
apt() {
  "${rights[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=20 -o Acquire::Retries=1 "$@" 9>&-
}

install() {
  apt install -y --no-install-recommends --no-upgrade "$@"
}

apt update # if this fails, the package lists on the machine may be enough
if ! install "${packages[@]}"; then
  [ ${#packages[@]} -gt 1 ] || exit 1
  failed=0
  for package in "${packages[@]}"; do install "$package" || failed=1; done # a package that does not exist must not prevent the others
  [ $failed = 0 ] || exit 1
fi
# Some packages start their service in spite of RUNLEVEL. Not every package is a service, so errors are ignored.
if [ -d /run/systemd/system ]; then "${rights[@]}" systemctl stop "${packages[@]}" || true; fi
