#!/bin/bash
# up.sh FOLDER [daphne|uvicorn]   start the whole stack on loopback, its state under FOLDER
# up.sh FOLDER uvicorn daphne     both, side by side on the same database, broker and workers; daphne on PORT + 1
# Environment: PORT (18000) REDIS_PORT (16379) PG_PORT (15432) WORKERS (1, uvicorn only) PYTHON (python3)
#              and the SEED_ variables of backend/settings.py: SEED_ACKS_LATE, SEED_VISIBILITY_TIMEOUT, SEED_LITERAL_LAYER
# Needs redis-server and PostgreSQL (Debian packages redis-server, postgresql). Stop it with down.sh FOLDER.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: up.sh FOLDER [daphne|uvicorn]}"
dir=$(cd "$1" && pwd)
[ $# -gt 1 ] || set -- "$1" daphne
port=${PORT:-18000} rport=${REDIS_PORT:-16379} pgport=${PG_PORT:-15432}
run=$dir/run pg=$dir/pg
[ ! -s "$run/pids" ] || { echo "already up: $run/pids" >&2; exit 1; }
mkdir -p "$run" "$dir/media/tmp"
rm -f "$run"/*

if ! cmp -s "$here/requirements.txt" "$dir/venv/installed.txt"; then
    "${PYTHON:-python3}" -m venv "$dir/venv"
    "$dir/venv/bin/pip" install -q -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$dir/venv/installed.txt"
fi

cat >"$run/env" <<EOF
export PYTHONDONTWRITEBYTECODE=1 PATH=$dir/venv/bin:\$PATH SEED_MEDIA_ROOT=$dir/media
export SEED_PORT=$port SEED_REDIS_PASSWORD=dreams SEED_REDIS_PORT=$rport SEED_PG_PORT=$pgport
export SEED_ACKS_LATE=${SEED_ACKS_LATE:-0} SEED_VISIBILITY_TIMEOUT=${SEED_VISIBILITY_TIMEOUT:-3600}
export SEED_LITERAL_LAYER=${SEED_LITERAL_LAYER:-0}
EOF
. "$run/env"
cd "$here"

start() { # NAME COMMAND...
    printf '%q ' "${@:2}" >"$run/$1.cmd"
    "$here/start.sh" "$dir" "$1"
}
wait_for() { # SECONDS COMMAND...
    local n=$(($1 * 10)); shift
    until "$@" >/dev/null 2>&1; do
        ((n-- > 0)) || { echo "not up: $*" >&2; "$here/down.sh" "$dir"; exit 1; }
        sleep 0.1
    done
}

# PostgreSQL refuses to run as root.
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
as_pg=(); [ "$(id -u)" != 0 ] || as_pg=(setpriv --reuid=postgres --regid=postgres --init-groups)
mkdir -p "$pg"; [ "$(id -u)" != 0 ] || chown postgres "$pg"
[ -e "$pg/PG_VERSION" ] ||
    (cd / && "${as_pg[@]}" "$bin/initdb" -D "$pg" -U dreams -A trust -E UTF8 --locale=C.UTF-8 >"$run/initdb.log")
start postgres "${as_pg[@]}" "$bin/postgres" -D "$pg" -h 127.0.0.1 -p "$pgport" -k ''
export PGHOST=127.0.0.1 PGPORT=$pgport PGUSER=dreams
wait_for 20 "$bin/pg_isready"
"$bin/psql" -qAt -d postgres -c "select 1 from pg_database where datname='dreams'" | grep -q 1 || "$bin/createdb" dreams

start redis redis-server --port "$rport" --bind 127.0.0.1 --requirepass dreams --save '' --appendonly no --dir "$run"
wait_for 10 redis-cli -p "$rport" -a dreams ping
python manage.py migrate --verbosity 0
start celery celery -A backend worker --pool prefork --concurrency 2 --loglevel info
for server in "${@:2}"; do
    case $server in
    daphne) start daphne daphne -b 127.0.0.1 -p "$port" --access-log /dev/null backend.asgi:application ;;
    uvicorn) start uvicorn uvicorn --host 127.0.0.1 --port "$port" --workers "${WORKERS:-1}" --loop uvloop \
        --lifespan off --no-access-log backend.asgi:application ;;
    *) echo "unknown server: $server" >&2; "$here/down.sh" "$dir"; exit 2 ;;
    esac
    echo "$port" >"$run/$server.port"
    wait_for 20 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
    echo "$server on http://127.0.0.1:$port, pids in $run/pids"
    port=$((port + 1))
done
wait_for 30 grep -q ' ready\.' "$run/celery.log"
