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
table=$work/table held=0
: > "$table"

now() { date +%s%N; }
repository() { find "$BACKUPD_REPO" -type f -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }
human() { numfmt --to=iec-i --suffix=B --format=%.1f "${1:-0}" | sed 's/\([KMGTP]*i*B\)$/ \1/'; }
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

# same WHAT A B fails unless the two folders hold the same, byte for byte and with all metadata.
same() {
	difference=$(rsync -aHAXn --checksum --itemize-changes --delete "$2/" "$3/")
	[ -z "$difference" ] || { { echo "$1 differs:"; echo "$difference" | head -n 30; } >&2; exit 1; }
	echo "$1: identical ($(find "$2" | wc -l) files and folders, $(human "$(takes "$2")"))" >&2
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

step "init" "" "$backupd" repo init
held=$(takes "$source" "$@")
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

held=$(takes "$source" "$@")
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
{ printf 'step\ttook\ta copy takes\tstored\tsaved\trepository\n'; cat "$table"; } |
	awk -F '\t' '{ printf "%-26s %10s %14s %12s %8s %12s\n", $1, $2, $3, $4, $5, $6 }'
printf '\nEverything came back as it was: every byte, name, mode, owner, time, link and attribute.\n'
