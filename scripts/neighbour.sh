#!/bin/sh
# What a PostgreSQL server feels of a backup beside it: latency of pgbench alone, beside a daemon that does not give way,
# beside one with the defaults, and beside one with limits as well. In turn, ROUNDS times, each for SECONDS.
# Its files, MIB of them and a database, lie below PLACE (var), which wants to be on a disk, and are removed.
set -eu
SECONDS_EACH=${SECONDS_EACH:-30} ROUNDS=${ROUNDS:-2} MIB=${MIB:-3072} CLIENTS=${CLIENTS:-2}
here=$(cd "$(dirname "$0")/.." && pwd)
"$here/scripts/need.sh" openssl curl
pg=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
test -x "$pg/pg_ctl" || { echo "needs postgresql (apt-get install postgresql)" >&2; exit 1; }
mkdir -p "${PLACE:-$here/var}"
dir=$(mktemp -d "${PLACE:-$here/var}/neighbour.XXXXXX")
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then
	chmod 755 "$dir"
	as() { (cd / && runuser -u postgres -- "$@"); } # the server refuses to be root's
fi
mkdir "$dir/pg" "$dir/files"
if [ "$(id -u)" = 0 ]; then chown postgres "$dir/pg"; fi
daemon=
end() {
	if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || :; wait "$daemon" 2>/dev/null || :; fi
	as "$pg/pg_ctl" -s -D "$dir/pg/data" -m immediate stop >/dev/null 2>&1 || :
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM

i=0
while [ $((i * 64)) -lt "$MIB" ]; do # incompressible to three quarters
	head -c 48M /dev/zero | openssl enc -aes-128-ctr -pass "pass:$i" -nosalt -pbkdf2 -iter 1 | base64 -w 0 >"$dir/files/$i"
	i=$((i + 1))
done
as "$pg/initdb" -D "$dir/pg/data" -A trust -U bench >/dev/null
as "$pg/pg_ctl" -s -w -D "$dir/pg/data" -l "$dir/pg/log" -o "-k $dir/pg -h '' -c shared_buffers=64MB" start
as "$pg/pgbench" -h "$dir/pg" -U bench -q -i -s 20 postgres >/dev/null 2>&1

# beside NAME LIMITS: a new repository, a daemon with those limits, one backup of everything, and pgbench.
beside() {
	if [ -n "$2" ]; then
		rm -rf "$dir/repo" "$dir/state" "$dir/key"
		"$here/bin/backupd" repo init --repo "$dir/repo" --key-file "$dir/key" --state-dir "$dir/state" 2>/dev/null
		cat >"$dir/backupd.yaml" <<-END
			listen: unix:$dir/api.sock
			repository: {path: $dir/repo, key_file: $dir/key}
			state_dir: $dir/state
			sources: [{name: files, kind: files, paths: [$dir/files]}]
			limits: $2
		END
		"$here/bin/backupd" serve --config "$dir/backupd.yaml" 2>"$dir/daemon.log" &
		daemon=$!
		"$here/bin/backupd" token create --config "$dir/backupd.yaml" --name bench --role admin >"$dir/token" 2>/dev/null
		chmod 600 "$dir/token"
		until test -S "$dir/api.sock"; do
			kill -0 "$daemon" 2>/dev/null || { cat "$dir/daemon.log" >&2; exit 1; }
			sleep 0.1
		done
		for f in "$dir"/files/*; do dd if="$f" iflag=nocache count=0 status=none; done
		sync
		"$here/bin/backupd" create --server "unix:$dir/api.sock" --token-file "$dir/token" --type full >/dev/null 2>&1
	fi
	rm -f "$dir"/pg/l.*
	as "$pg/pgbench" -h "$dir/pg" -U bench -n -c "$CLIENTS" -T "$SECONDS_EACH" -l --log-prefix="$dir/pg/l" postgres >/dev/null 2>&1
	done=-
	if [ -n "$2" ]; then
		done=$("$here/bin/backupd" list --json --server "unix:$dir/api.sock" --token-file "$dir/token" | tr ',{' '\n\n' | sed -n 's/^ *"status": *"\(.*\)"/\1/p' | head -1)
		kill "$daemon"; wait "$daemon" 2>/dev/null || :
		daemon=
	fi
	cat "$dir"/pg/l.* | awk '{print $3 / 1000}' | sort -n | awk -v name="$1" -v s="$SECONDS_EACH" -v d="$done" '
		{ v[NR] = $1; sum += $1 }
		END { printf "%-34s %8.0f %8.2f %8.2f %8.2f %8.1f  %s\n", name, NR / s, sum / NR, v[int(NR * .5) + 1], v[int(NR * .99) + 1], v[NR], d }'
}

printf '%-34s %8s %8s %8s %8s %8s  %s\n' "latency in ms" "tps" mean median p99 max "the backup after it"
r=0
while [ "$r" -lt "$ROUNDS" ]; do
	beside "alone" ""
	beside "not giving way" "{nice: 0, io_class: normal}"
	beside "with the defaults" "{nice: 10}"
	beside "and with io: 40 MiB, cpu: 0.5" "{io: 40 MiB, cpu: 0.5}"
	r=$((r + 1))
done
