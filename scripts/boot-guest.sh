# boot-guest.sh goes through the life of backupd.service on the machine that boot.sh booted. It runs in three boots: an
# ordinary one, the one after an orderly reboot, and the one after the power was cut. A line "ok WHAT" or "NOT OK WHAT" for
# each thing that must hold; "end" when all was looked at.
set -u
stage=/var/lib/boot-stage
config=/etc/backupd/backupd.yaml
doc=/usr/local/share/doc/backupd/README.md
token=/root/token

# check WHAT COMMAND... says whether a command ends well, and what it printed when not.
check() {
	what=$1
	shift
	if out=$("$@" 2>&1); then echo "ok $what"; else echo "NOT OK $what"; echo "$out" | tail -n 15 | sed 's/^/    /'; fi
}
# soon COMMAND... waits for a command to end well.
soon() { for _ in $(seq 120); do "$@" > /dev/null 2>&1 && return 0; sleep 0.5; done; "$@"; }
not() { ! "$@"; }
# code WANT COMMAND... wants an exit code.
code() { want=$1; shift; "$@"; got=$?; [ "$got" -eq "$want" ] || { echo "exit code $got, want $want"; return 1; }; }
show() { systemctl show -P "$1" backupd; }
is() { [ "$(show "$1")" = "$2" ] || { echo "$1 is $(show "$1"), want $2"; return 1; }; }
journal() { journalctl -u backupd --no-pager -o cat "$@"; }
says() { journal -p err | grep -qF -- "$1" || { journal -n 20; return 1; }; }
ask() { command=$1; shift; backupd "$command" --token-file $token "$@"; }
# block N prints the Nth block between fences of the page that was installed.
block() { awk -v n="$1" '/^```/{ if (!inside) count++; inside = !inside; next } inside && count == n' $doc; }
dropin() { mkdir -p /etc/systemd/system/backupd.service.d && cat > "/etc/systemd/system/backupd.service.d/$1.conf" && systemctl daemon-reload; }
undo() { rm "/etc/systemd/system/backupd.service.d/$1.conf"; systemctl daemon-reload; }
restart() { systemctl reset-failed backupd; systemctl restart backupd; }
edit() { sed -i "$1" $config; }
differences() { rsync -aHAXn --checksum --itemize-changes --delete --exclude '*.db*' /opt/ /var/lib/backupd/staging/opt/; }
same() { out=$(differences); [ "$out" = "$1" ] || { echo "$out"; return 1; }; }
completed() { ask show "$1" | grep -q '^status *completed$' || { ask show "$1"; return 1; }; }
# slow makes the hook of the source take so many seconds; begun waits until it is at it.
slow() { edit "s/hook\", *\"[0-9]*\"/hook\", \"$1\"/"; systemctl reload backupd; sleep 1; }
begun() { soon pgrep -fx 'sleep 300'; }

first() {
	echo "kernel $(uname -r), $(systemctl --version | head -n 1), $(systemd-detect-virt)"
	cp -a /run/in/root/. /
	check "systemd-analyze verify finds nothing" systemd-analyze verify --man=no backupd.service
	echo "$(systemd-analyze security backupd | tail -n 1 | sed 's/.*: //')"
	# Data that only root could read, and of every kind.
	mkdir -p /opt/gbo/data/private /opt/gbo/data/group /opt/botserver/data
	cd /opt/gbo/data || exit
	head -c 20000000 /dev/urandom > big
	echo text > text && setfattr -n user.note -v kept text && setfacl -m u:1234:r text && ln text hard && ln -s text symbolic
	echo theirs > private/file && chown -R 1000:1001 private && chmod -R go= private
	chgrp 1001 group && chmod 2775 group && mkfifo pipe && truncate -s 8M sparse
	cp /bin/true setuid && chmod 4755 setuid && cp /bin/true capable && setcap cap_net_raw+ep capable && mknod null c 1 3 && mknod loop b 7 0
	echo trusted > trusted && setfattr -n trusted.note -v kept trusted
	cd / || exit
	sqlite3 /opt/botserver/data/botserver.db 'PRAGMA journal_mode=wal; CREATE TABLE t(a); INSERT INTO t VALUES(1)' > /dev/null

	check "without a configuration it does not start" not systemctl start backupd
	check "... and says so, as an error" says "$config"
	systemctl stop backupd
	# What the page says, as it says it.
	block 1 > /root/steps
	check "the steps of deploy/README.md" sh -e /root/steps
	backupd token create --config $config --name boot --role admin > $token 2> /dev/null
	check "it is active and says where it listens" eval 'is ActiveState active && is StatusText "listening on 127.0.0.1:9000"'
	check "... and enabled" systemctl is-enabled backupd
	check "it answers" soon curl -sf http://127.0.0.1:9000/api/health
	soon ask list > /dev/null
	check "a second one names the first" code 11 backupd serve --config $config
	status=/proc/$(show MainPID)/status
	check "capabilities: five, none else to be had" grep -q '^CapBnd:.*000000000000001f' "$status"
	check "system calls are filtered, privileges not regained" eval "grep -q '^Seccomp:.*2' $status && grep -q '^NoNewPrivs:.*1' $status"
	group=/sys/fs/cgroup$(show ControlGroup)
	check "memory 1.5 GiB, no swap, 256 tasks" eval "[ \$(cat $group/memory.max) = 1610612736 ] && [ \$(cat $group/memory.swap.max) = 0 ] && [ \$(cat $group/pids.max) = 256 ]"
	check "65536 files, no core" eval "grep -q 'open files *65536 *65536' /proc/$(show MainPID)/limits && grep -q 'core file size *0 *0' /proc/$(show MainPID)/limits"
	check "the rest of the system is read only for it" not nsenter -t "$(show MainPID)" -m touch /etc/mark /usr/mark /opt/gbo/data/mark

	# A call that the filter refuses ends the process from here on, so that none is passed over.
	echo '[Service]
SystemCallErrorNumber=' | dropin kill
	cat > /usr/local/sbin/hook <<'END'
#!/bin/sh
date +%s >> /var/lib/backupd/hooked
curl -s -m 3 http://10.9.9.9:80/ && touch /var/lib/backupd/reached
sleep "$1"
END
	chmod 0755 /usr/local/sbin/hook
	edit 's|^    paths: \[/opt/gbo/data\]|&\n    hooks: {before: ["/usr/local/sbin/hook", "0"]}|'
	check "restart, strict" restart
	# An address that is not the loopback one, and answers who may ask.
	ip address add 10.9.9.9/32 dev lo
	perl -MIO::Socket -e '$s = IO::Socket::INET->new(LocalAddr => "10.9.9.9:80", Listen => 5, ReuseAddr => 1) or die; while ($c = $s->accept) { <$c>; print $c "HTTP/1.0 200 OK\r\n\r\nhello"; close $c }' &
	soon curl -sf http://10.9.9.9:80/ > /dev/null
	check "backup of other people's files, a hook, a database that no program has open" ask create --wait
	check "the hook ran, and reached no other host" eval '[ -s /var/lib/backupd/hooked ] && [ ! -e /var/lib/backupd/reached ]'
	check "... which was there (control)" curl -sf http://10.9.9.9:80/
	sqlite3 /opt/botserver/data/botserver.db 'PRAGMA wal_autocheckpoint=0' "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 20000) INSERT INTO t SELECT i FROM n" '.shell sleep 20' > /dev/null &
	writer=$!
	sleep 2
	check "backup beside a program that writes to the database" ask create --type full --wait
	check "restore" ask restore latest --wait
	check "... brought back all but what --privileged does" same "$(printf '%s\n' '.f........x gbo/data/capable' 'cD+++++++++ gbo/data/loop' 'cD+++++++++ gbo/data/null' '.f...p..... gbo/data/setuid' '.f........x gbo/data/trusted')"
	check "... and a database that opens" eval '[ "$(sqlite3 /var/lib/backupd/staging/opt/botserver/data/botserver.db "PRAGMA integrity_check" "SELECT count(*) >= 1 FROM t" | tr "\n" " ")" = "ok 1 " ]'
	check "verify" ask status
	check "no call was refused" eval "is NRestarts 0 && ! journalctl -b --no-pager | grep -q 'status=31/SYS'"
	undo kill
	wait $writer # its end changes the directory once more

	block 5 | dropin privileged
	rm -rf /var/lib/backupd/staging
	check "the page's drop-in for --privileged" restart
	check "backup with trusted attributes" ask create --type full --wait
	check "restore --privileged" ask restore latest --privileged --wait
	check "... brought back everything" same ""
	undo privileged
	systemd-creds setup > /dev/null 2>&1
	systemd-creds encrypt --name=backupd-key /etc/backupd/key /etc/backupd/key.cred 2> /dev/null
	mv /etc/backupd/key /root/key
	block 6 | dropin credential
	check "the key as an encrypted credential" restart
	undo credential
	check "without it or the key file it does not start" not restart
	check "... and says so" says "repository.key_file: /etc/backupd/key is not there"
	mv /root/key /etc/backupd/key

	edit 's|^listen: .*|listen: unix:/run/backupd/api.sock|'
	check "on a unix socket" restart
	check "... for root and its group" eval '[ "$(stat -c %a%U%G /run/backupd /run/backupd/api.sock | tr "\n" " ")" = "750rootroot 660rootroot " ]'
	check "... which answers" ask list --server unix:/run/backupd/api.sock
	edit 's|^listen: .*|listen: 127.0.0.1:9000|'
	restart
	echo 'nonsense: 1' >> $config
	systemctl reload backupd
	check "a broken configuration is named by line and key, and changes nothing" eval 'soon says "nonsense: unknown key" && is ActiveState active'
	edit '$d'
	check "reload" eval 'systemctl reload backupd && soon sh -c "journalctl -u backupd -o cat -n 3 | grep -q \"configuration read again\""'

	mv /var/lib/backupd/repo /var/lib/backupd/away
	check "without the repository it does not start" not restart
	check "... exits 10, is not tried again, and says so" eval 'is ExecMainStatus 10 && is NRestarts 0 && is ActiveState failed && says "no repository at /var/lib/backupd/repo"'
	mv /var/lib/backupd/away /var/lib/backupd/repo
	printf '[Service]\nWatchdogSec=10\nRestartSec=1\n' | dropin quick
	restart
	old=$(show MainPID)
	kill -KILL "$old"
	check "killed, it comes back" soon eval "is ActiveState active && ! is MainPID $old"
	old=$(show MainPID)
	kill -STOP "$old"
	check "mute, it is replaced by the watchdog" soon eval "is ActiveState active && ! is MainPID $old && journal | grep -q \"Failed with result 'watchdog'\""
	undo quick

	slow 300
	id=$(ask create)
	begun
	before=$(date +%s)
	check "stop beside a backup that waits in its hook" systemctl stop backupd
	took=$(($(date +%s) - before))
	check "... took $took s, ten at most, and left nothing running" eval "[ $took -le 10 ] && ! pgrep -fx 'sleep 300' && is Result success"
	edit 's/hook", *"300"/hook", "0"/'
	systemctl start backupd
	check "... and the next start completes the backup under its id" soon completed "$id"
	slow 300
	ask create > /root/id
	begun
	edit 's/hook", *"300"/hook", "0"/'
	echo second > $stage
	sync
	systemctl reboot
}

second() {
	check "after a reboot it runs by itself" soon is ActiveState active
	check "... and completes what ran before, under its id" soon completed "$(cat /root/id)"
	check "what was before is sound" backupd repo check --read-data --config $config
	ask create --wait > /root/id 2> /dev/null
	ask schedule create --cron '@weekly' --type full > /root/schedule 2> /dev/null
	slow 300
	ask create > /root/waiting
	begun
	edit 's/hook", *"300"/hook", "0"/'
	echo third > $stage
	sync -f $stage $config /root/waiting
	# The last call was acknowledged and nothing has been synced since: the cut takes what the daemon left to the kernel.
	ask delete "$(head -n 1 /root/id)" > /root/deleted
	echo b > /proc/sysrq-trigger
	sleep 60
}

third() {
	check "after the power was cut it runs by itself" soon is ActiveState active
	check "... and completes the backup that ran, under its id" soon completed "$(cat /root/waiting)"
	check "... the schedule is there" eval "ask schedule list | grep -q '$(cat /root/schedule)'"
	check "... the deletion that was acknowledged as well" not eval "ask list | grep -q '$(cat /root/id)'"
	check "... the audit log is whole" backupd debug audit verify --config $config
	check "... and every byte of the repository is right" backupd repo check --read-data --config $config
	check "gc, by hand, beside no daemon" eval "systemctl stop backupd && backupd repo gc --config $config"
	echo end
	systemctl poweroff
}

"$(cat $stage 2> /dev/null || echo first)"
