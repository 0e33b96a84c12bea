#!/bin/sh
# demo.sh [FOLDER...] does backupd's main job once, on real input: the bot packages and the database
# below testdata, and the folders given. It works in a fresh directory below var and removes it.
# The proof is not ours: rsync compares every byte and all metadata of what came back.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh rsync
backupd=$PWD/bin/backupd
[ -x "$backupd" ] || { echo "there is no bin/backupd; type: make build" >&2; exit 1; }

mkdir -p var
work=$(mktemp -d "$PWD/var/demo.XXXXXX")
trap 'chmod -R u+rwX "$work" && rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
source=$work/source
export BACKUPD_REPO="$work/repo" BACKUPD_KEY_FILE="$work/key" BACKUPD_STATE_DIR="$work/state"
table=$work/table
: > "$table"

now() { date +%s%N; }
repository() { find "$BACKUPD_REPO" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }
human() { numfmt --to=iec --format=%.1f "${1:-0}"; }

# step NAME ALLOWED COMMAND... runs one command, remembers what it cost and what it did to the repository.
step() {
	name=$1 allowed=$2
	shift 2
	printf '\n== %s\n' "$name" >&2
	before=$(repository) start=$(now) code=0
	"$@" || code=$?
	end=$(now) after=$(repository)
	case " 0 $allowed " in *" $code "*) ;; *) echo "$name ended with exit code $code" >&2; exit 1 ;; esac
	printf '%s\t%s\t%s\t%s\n' "$name" "$(((end - start) / 1000000)) ms" \
		"$(human $((${after:-0} - ${before:-0})))" "$(human "${after:-0}")" >> "$table"
}

# same WHAT A B fails unless the two folders hold the same, byte for byte and with all metadata.
same() {
	difference=$(rsync -aHAXn --checksum --itemize-changes --delete "$2/" "$3/")
	[ -z "$difference" ] || { { echo "$1 differs:"; echo "$difference" | head -n 30; } >&2; exit 1; }
	echo "$1: identical ($(find "$2" | wc -l) files and folders, $(human "$(du -s -B1 "$2" | cut -f1)"))" >&2
}

# What a host really holds: more than plain files.
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

step "init" "" "$backupd" repo init
step "full backup" "3" sh -c '"$0" repo backup --type full "$@" > '"$work/first" "$backupd" "$source" "$@"
first=$(tail -n 1 "$work/first")

# A day at work: rows, a new dialog, a removed list, a moved picture, a page of the knowledge base.
sqlite=$source/botserver.db
printf 'a new page of messages\n' | dd of="$sqlite" bs=1 seek=204800 conv=notrunc status=none
sed -i 's/,paid,/,packed,/' "$source/trailhead.gbai/trailhead.gbdrive/exports/orders-2025.csv"
printf '\nWe are closed on the second of March for a training day.\n' >> "$source/riverside.gbai/riverside.gbkb/patients/appointments.md"
printf 'DESCRIPTION "Say hello"\nTALK "Hello."\n' > "$source/helpdesk.gbai/helpdesk.gbdialog/hello.bas"
rm "$source/helpdesk.gbai/helpdesk.gbdrive/capacity/2026-02-01.txt"
mv "$source/trailhead.gbai/trailhead.gbdrive/images/lake-morning.png" "$source/trailhead.gbai/trailhead.gbdrive/images/lake.png"
chmod 600 "$source/helpdesk.gbai/helpdesk.gbot/config.csv"

step "incremental backup" "3" sh -c '"$0" repo backup "$@" > '"$work/second" "$backupd" "$source" "$@"
second=$(tail -n 1 "$work/second")
step "diff" "" "$backupd" repo diff "$first" "$second"
step "snapshots" "" "$backupd" repo snapshots
step "check, reading all data" "" "$backupd" repo check --read-data

# Another machine: only the binary, the repository and the key file.
BACKUPD_STATE_DIR=$work/elsewhere
step "restore the latest" "" "$backupd" repo restore latest --target "$work/restored"
step "restore the first" "" "$backupd" repo restore "$first" --target "$work/restored-first" "$source"

printf '\n== compare, by rsync\n' >&2
same "latest" "$source" "$work/restored$source"
same "first" "$morning" "$work/restored-first$source"
for folder in "$@"; do
	absolute=$(realpath -s "$folder")
	same "$absolute" "$absolute" "$work/restored$absolute"
done

printf '\n'
{ printf 'step\ttook\trepository grew by\tto\n'; cat "$table"; } | awk -F '\t' '{ printf "%-26s %10s %20s %10s\n", $1, $2, $3, $4 }'
