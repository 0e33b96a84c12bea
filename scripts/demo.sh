#!/bin/sh
# demo.sh [FOLDER...] does backupd's main job once, on real input: the bot packages and the database below testdata, and
# the folders given. A daemon does it, asked through its REST API; then another machine does with the binary, the repository
# and the key alone. It works in a fresh directory below var and removes it. The proof is not ours: rsync compares every
# byte and all metadata of what came back.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh rsync
backupd=$PWD/bin/backupd
[ -x "$backupd" ] || { echo "there is no bin/backupd; type: make build" >&2; exit 1; }

mkdir -p var
work=$(mktemp -d "$PWD/var/demo.XXXXXX")
daemon=
finish() {
	[ -z "$daemon" ] || { kill -TERM "$daemon" 2> /dev/null || true; wait "$daemon" 2> /dev/null || true; }
	chmod -R u+rwX "$work" && rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
source=$work/source repo=$work/repo key=$work/key config=$work/backupd.yaml
table=$work/table held=0
: > "$table"

now() { date +%s%N; }
repository() { find "$repo" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }
human() { numfmt --to=iec-i --suffix=B --format=%.1f -- "${1:-0}" | sed 's/\([KMGTP]*i*B\)$/ \1/'; }
# takes FOLDER... is what they take on their file system; in the table "saved" is what a copy would have taken more.
takes() { du -c -s -B1 "$@" | tail -n 1 | cut -f1; }

# step NAME ALLOWED COMMAND... runs one command, remembers what it cost, what it did to the repository, and what that
# saved of $held, the bytes it backed up.
step() {
	name=$1 allowed=$2
	shift 2
	printf '\n== %s\n' "$name" >&2
	before=$(repository) start=$(now) code=0
	"$@" || code=$?
	end=$(now) after=$(repository)
	case " 0 $allowed " in *" $code "*) ;; *) echo "$name ended with exit code $code" >&2; exit 1 ;; esac
	grew=$((after - before)) copy=- saved=-
	[ "$held" -eq 0 ] || { copy=$(human "$held") saved="$((100 - 100 * grew / held)) %"; }
	[ "$grew" -eq 0 ] && grew=- || grew=$(human "$grew")
	printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$(((end - start) / 1000000)) ms" "$copy" "$grew" "$saved" "$(human "$after")" >> "$table"
	held=0
}

# kept FILE COMMAND... shows what a command prints and keeps it.
kept() {
	file=$1 result=0
	shift
	"$@" > "$file" || result=$?
	cat "$file"
	return $result
}

# differences A B is what rsync would do to make B the same as A, byte for byte and with all metadata.
differences() { rsync -aHAXn --checksum --itemize-changes --delete --exclude /botserver.db "$1/" "$2/"; }

# same WHAT A B [DIFFERENCE] fails unless the two folders hold the same, but for one known difference.
same() {
	found=$(differences "$2" "$3")
	[ "$found" = "${4:-}" ] || { { echo "$1 differs:"; echo "$found" | head -n 30; } >&2; exit 1; }
	echo "$1: identical${4:+ but for $4} ($(find "$2" | wc -l) files and folders, $(human "$(takes "$2")"))" >&2
}

# database WHAT A B fails unless B is what SQLite's backup makes of A: the metadata of A, and every byte but the counters
# in the header, which count the copying as a change.
database() {
	found=$(rsync -aAXn --itemize-changes "$2" "$3")
	other=$(cmp -l "$2" "$3" | awk '!($1 >= 25 && $1 <= 28 || $1 >= 41 && $1 <= 44 || $1 >= 93 && $1 <= 100)' | head -n 5)
	[ -z "$found$other" ] && [ -s "$3" ] || { printf '%s differs:\n%s\n%s\n' "$1" "$found" "$other" >&2; exit 1; }
	echo "$1: identical but for the change counters of its header" >&2
}

# What a host really holds: more than plain files.
echo "backing up testdata/bots ${*:+and }$*, working below var/, which is removed afterwards" >&2
cp -a testdata/bots "$source"
bot=$source/riverside.gbai/riverside.gbdrive
mkdir -p "$bot/odd/empty"
ln "$bot/holidays.csv" "$bot/odd/hard-link.csv"
ln -s ../holidays.csv "$bot/odd/symbolic-link.csv"
ln -s nowhere "$bot/odd/dangling-link"
mkfifo "$bot/odd/pipe"
truncate -s 8M "$bot/odd/sparse.img"
printf 'in the middle' | dd of="$bot/odd/sparse.img" bs=1 seek=4194304 conv=notrunc status=none
printf 'x' > "$bot/odd/$(printf 'not-utf8-\377-name')"
printf 'run me' > "$bot/odd/setgid.sh" && chmod 2750 "$bot/odd/setgid.sh"
touch -d '1999-12-31 23:59:59.123456789' "$bot/odd/setgid.sh"
setfattr -n user.origin -v 'front desk' "$bot/slots-2026-03.csv" 2>/dev/null || true
setfacl -m u:65534:r "$bot/slots-2026-03.csv" 2>/dev/null || true
morning=$work/morning
cp -a "$source" "$morning"

# The daemon of an embedded host: the database by SQLite's own backup, the rest as files.
mkdir "$work/staging" "$work/first"
{
	cat <<END
listen: "127.0.0.1:0"
repository: {path: "$repo", key_file: "$key"}
state_dir: "$work/state"
temporary: true
targets: {staging: {path: "$work/staging"}, first: {path: "$work/first"}}
sources:
  - {name: bots, kind: files, paths: ["$source"], exclude: ["*.db"]}
  - {name: botdb, kind: sqlite, paths: ["$source/botserver.db"]}
END
	number=0
	for folder in "$@"; do
		number=$((number + 1))
		echo "  - {name: folder$number, kind: files, paths: [\"$(realpath -s "$folder")\"]}"
	done
} > "$config"

step "init" "" "$backupd" repo init --repo "$repo" --key-file "$key"
step "token" "" sh -c 'umask 077; "$0" token create --config "$1" --name demo --role admin > "$2"' "$backupd" "$config" "$work/token"

# serve starts the daemon, which takes a free port, and waits until it says which and answers there.
serve() {
	"$backupd" serve --config "$config" 2> "$work/log" &
	daemon=$!
	tries=0
	until BACKUPD_SERVER=http://$(sed -n 's/.*msg=ready .*address=\([0-9.:]*\).*/\1/p' "$work/log" | tail -n 1) &&
		[ "$BACKUPD_SERVER" != http:// ] && export BACKUPD_SERVER && "$backupd" list --token-file "$work/token" > /dev/null 2>&1; do
		tries=$((tries + 1))
		kill -0 "$daemon" 2> /dev/null && [ $tries -lt 200 ] || { cat "$work/log" >&2; return 1; }
		sleep 0.05
	done
	echo "the daemon listens on $BACKUPD_SERVER" >&2
}
step "serve" "" serve
# ask COMMAND... is a command that asks the daemon through its API.
ask() {
	command=$1
	shift
	"$backupd" "$command" --token-file "$work/token" "$@"
}

held=$(takes "$source" "$@")
step "create, full" "3" kept "$work/id" ask create --type full --wait
first=$(cat "$work/id")

# A day at work: an answer of a bot, a new dialog, a removed list, a moved picture, a page of the knowledge base.
LC_ALL=C sed -i 's/ppointment/ppoIntment/' "$source/botserver.db"
sed -i 's/,paid,/,packed,/' "$source/trailhead.gbai/trailhead.gbdrive/exports/orders-2025.csv"
printf '\nWe are closed on the second of March for a training day.\n' >> "$source/riverside.gbai/riverside.gbkb/patients/appointments.md"
printf 'DESCRIPTION "Say hello"\nTALK "Hello."\n' > "$source/helpdesk.gbai/helpdesk.gbdialog/hello.bas"
rm "$source/helpdesk.gbai/helpdesk.gbdrive/capacity/2026-02-01.txt"
mv "$source/trailhead.gbai/trailhead.gbdrive/images/lake-morning.png" "$source/trailhead.gbai/trailhead.gbdrive/images/lake.png"
chmod 600 "$source/helpdesk.gbai/helpdesk.gbot/config.csv"

held=$(takes "$source" "$@")
step "create, incremental" "3" kept "$work/id" ask create --type incremental --wait
second=$(cat "$work/id")
step "list" "" ask list
step "show latest" "" ask show latest
# Commands that only read go beside the daemon.
step "diff" "" "$backupd" repo diff --config "$config" "$first" "$second"
step "files" "" "$backupd" repo ls --config "$config" latest "$source/helpdesk.gbai/helpdesk.gbdialog"
step "restore to staging" "" ask restore latest --wait
step "restore the first" "" ask restore "$first" --source bots --target first --wait
step "status" "" ask status
step "delete the first" "" ask delete "$first"

# drain ends the daemon as a supervisor does.
drain() {
	kill -TERM "$daemon"
	code=0
	wait "$daemon" || code=$?
	daemon=
	return $code
}
step "drain" "" drain
step "gc" "" "$backupd" repo gc --config "$config"
step "check, reading all data" "" "$backupd" repo check --read-data --config "$config"

# Another machine: only the binary, the repository and the key file.
step "restore elsewhere" "" "$backupd" repo restore latest --repo "$repo" --key-file "$key" --state-dir "$work/elsewhere" --target "$work/restored"

printf '\n== compare, by rsync\n' >&2
# Set-id bits come back to root, and through the API only when asked for with --privileged; the reports say so.
off=".f...p..... riverside.gbai/riverside.gbdrive/odd/setgid.sh" elsewhere=
[ "$(id -u)" -eq 0 ] || elsewhere=$off
same "latest through the API" "$source" "$work/staging$source" "$off"
same "first through the API" "$morning" "$work/first$source" "$off"
same "latest elsewhere" "$source" "$work/restored$source" "$elsewhere"
database "the database through the API" "$source/botserver.db" "$work/staging$source/botserver.db"
database "the database elsewhere" "$source/botserver.db" "$work/restored$source/botserver.db"
for folder in "$@"; do
	absolute=$(realpath -s "$folder")
	same "$absolute" "$absolute" "$work/restored$absolute"
done

printf '\n'
{ printf 'step\ttook\ta copy takes\tstored\tsaved\trepository\n'; cat "$table"; } |
	awk -F '\t' '{ printf "%-26s %10s %14s %12s %8s %12s\n", $1, $2, $3, $4, $5, $6 }'
cat <<END

Everything came back as it was: every byte, name, mode, owner, time, link and attribute. Two things differ, and are meant to:
setgid.sh has no setgid bit through the API, where setuid and setgid bits, devices, capabilities and trusted attributes stay
off until an admin asks a daemon of root with --privileged${elsewhere:+, nor elsewhere without root}; and SQLite counts its own copying as
changes in the header of botserver.db.
END
