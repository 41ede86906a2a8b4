#!/bin/bash
# prepare.sh FOLDER   install the peers, the libraries of the load generator, and the photographs
# Needs Debian's apt-get (as root, unless redis-server and postgresql are there), python3-venv, Node and npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: prepare.sh FOLDER}"
cd "$1"
if ! command -v redis-server >/dev/null || ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
    apt-get -q -y install --no-install-recommends redis-server postgresql
fi
[ -x venv/bin/pip ] || python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check -r "$here/requirements.txt"
[ -d node_modules/ws ] || npm install --no-audit --no-fund --silent sharp@0.35.5 ws@8.23.0
[ -d photos/png ] || "$here/photos.sh" photos
