#!/bin/sh
# run.sh starts the daemon on an embedded default: repository, key, token and state below var/run, the sample bots as
# source, var/run/staging as target. What is there already is used again. Ctrl-C ends it cleanly.
set -eu
cd "$(dirname "$0")/.."
backupd=$PWD/bin/backupd
[ -x "$backupd" ] || { echo "there is no bin/backupd; type: make build" >&2; exit 1; }
listen=${LISTEN:-127.0.0.1:9000}
here=$PWD/var/run
umask 077
mkdir -p "$here"

# A path in double quotes is YAML whatever is in it, but for these two.
case $here in *[\"\\]*) echo "the path $here has a quote or a backslash in it" >&2; exit 1 ;; esac
cat > "$here/backupd.yaml" <<END
listen: "$listen"
repository: {path: "$here/repo", key_file: "$here/key"}
state_dir: "$here/state"
temporary: true
sources:
  - {name: bots, kind: files, paths: ["$PWD/testdata/bots"], exclude: ["*.db"]}
  - {name: botdb, kind: sqlite, paths: ["$PWD/testdata/bots/botserver.db"]}
targets:
  staging: {path: "$here/staging"}
END
if [ ! -e "$here/repo" ]; then
	# The recovery code is shown once; this repository is a toy, so it is kept beside it.
	"$backupd" repo init --repo "$here/repo" --key-file "$here/key" 2> "$here/recovery" || { cat "$here/recovery" >&2; exit 1; }
fi
"$backupd" config check --config "$here/backupd.yaml"
if [ ! -s "$here/token" ]; then
	"$backupd" token revoke --config "$here/backupd.yaml" run 2> /dev/null || true
	"$backupd" token create --config "$here/backupd.yaml" --name run --role admin --basic > "$here/token"
fi

case $listen in unix:*) url=$listen ;; *) url=http://$listen ;; esac
export BACKUPD_SERVER="$url"
# answers says whether a daemon does; another program at the address may take the question and keep silent.
answers() { timeout 3 "$backupd" list --limit 1 --token-file "$here/token" > /dev/null 2>&1; }
# One that runs already would answer in place of the new one.
if answers; then
	echo "the daemon of $here is running already, on $url" >&2
	exit 1
fi
"$backupd" serve --config "$here/backupd.yaml" &
daemon=$!
# The terminal sends Ctrl-C to both; the daemon drains, and its exit code is this one's.
trap ':' INT
trap 'kill -TERM $daemon 2> /dev/null || true' TERM HUP
tries=0
until answers; do
	kill -0 $daemon 2> /dev/null || { wait $daemon; exit $?; }
	tries=$((tries + 1))
	[ $tries -lt 100 ] || { echo "the daemon does not answer" >&2; kill $daemon; exit 1; }
	sleep 0.1
done
cat <<END

address  $url
token    $(cat "$here/token")

In another terminal:

  export BACKUPD_SERVER=$url BACKUPD_TOKEN=\$(cat $here/token)
  bin/backupd create --wait
  bin/backupd list
  bin/backupd restore latest --wait      # lands in $here/staging

Ctrl-C ends the daemon.
END
while :; do
	code=0
	wait $daemon || code=$?
	kill -0 $daemon 2> /dev/null || break
done
exit $code
