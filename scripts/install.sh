#!/usr/bin/env bash
# Installs programs that tests want, each given as program:package, by Debian's package manager. What is on the PATH is left alone.
#
#   scripts/install.sh varnishd:varnish redis-server:redis-server
#
# One at a time, although several test files ask at once: who has waited finds the programs there. No service is left running.
set -uo pipefail
export PATH="$PATH:/usr/sbin:/usr/local/sbin" # where servers are, which the PATH of an ordinary user does not name

exec 9>"${TMPDIR:-/tmp}/sse-router-install-$(id -u).lock" && flock 9 || exit 1

packages=()
for wanted in "$@"; do
  command -v "${wanted%%:*}" >/dev/null || packages+=("${wanted#*:}")
done
[ ${#packages[@]} -gt 0 ] || exit 0

rights=()
[ "$(id -u)" = 0 ] || rights=(sudo -n)

# RUNLEVEL=1: no service is started. 9>&-: whatever stays all the same does not keep the lock.
apt() {
  "${rights[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=20 -o Acquire::Retries=1 "$@" 9>&-
}

install() {
  apt install -y --no-install-recommends --no-upgrade "$@"
}

apt update # when it fails, what is known already may do
if ! install "${packages[@]}"; then
  [ ${#packages[@]} -gt 1 ] || exit 1
  failed=0
  for package in "${packages[@]}"; do install "$package" || failed=1; done # one that there is not must not cost the others
  [ $failed = 0 ] || exit 1
fi
# The service manager is asked all the same to stop what may run; not every package is a service.
if [ -d /run/systemd/system ]; then "${rights[@]}" systemctl stop "${packages[@]}" || true; fi
