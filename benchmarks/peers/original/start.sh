#!/bin/bash
# start.sh FOLDER NAME   start one part (postgres, redis, celery, uvicorn, daphne) with the command that up.sh noted for it
# its line in FOLDER/run/pids is replaced
set -euo pipefail
run=$(cd "${1:?usage: start.sh FOLDER NAME}/run" && pwd) name=$2
cd "$(dirname "$0")"
. "$run/env"
log=$run/$name.log
eval "setsid $(cat "$run/$name.cmd") >>\"\$log\" 2>&1 </dev/null & pid=\$!"
{ grep -v "^$name=" "$run/pids" 2>/dev/null || true; echo "$name=$pid"; } >"$run/pids.new"
mv "$run/pids.new" "$run/pids"
