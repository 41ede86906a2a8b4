#!/bin/bash
# restart.sh FOLDER NAME [SIGNAL]   stop one part (redis, celery, uvicorn, daphne) by signal (TERM, or KILL for its whole group
# at once), start it again and wait until it is ready
set -euo pipefail
run=${1:?usage: restart.sh FOLDER NAME [SIGNAL]}/run name=$2 signal=${3:-TERM}
. "$run/env"
pid=$(sed -n "s/^$name=//p" "$run/pids")
group=; [ "$signal" != KILL ] || group=-
kill -"$signal" -- "$group$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
size=$(stat -c %s "$run/$name.log")
"$(dirname "$0")/start.sh" "$1" "$name"
case $name in
uvicorn | daphne) ready() { (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$run/$name.port")"); } ;;
redis) ready() { redis-cli -p "$SEED_REDIS_PORT" -a "$SEED_REDIS_PASSWORD" ping; } ;;
celery) ready() { tail -c "+$((size + 1))" "$run/celery.log" | grep -q ' ready\.'; } ;;
esac
for _ in $(seq 300); do ready >/dev/null 2>&1 && exit 0; sleep 0.1; done
echo "$name not ready" >&2
exit 1
