#!/bin/sh
# boot.sh installs backupd in a small Debian that runs in qemu, with a kernel and systemd of its own, and has
# scripts/boot-guest.sh go through the life of the unit there. SUITE (bookworm) is the Debian, ACCEL=kvm makes it fast where
# that works. The system is made once, by root, in var/boot; a run changes nothing in it.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "making a Debian needs root" >&2; exit 1; }
scripts/need.sh debootstrap qemu-system-x86_64 mke2fs tar
suite=${SUITE:-bookworm}
work=$PWD/var/boot
disk=$work/$suite.img
mkdir -p "$work"

if [ ! -e "$disk" ]; then
	root=$work/$suite
	rm -rf "$root"
	echo "making a Debian ($suite) in $root" >&2
	debootstrap --variant=minbase \
		--include=systemd,systemd-sysv,dbus,linux-image-cloud-amd64,attr,acl,libcap2-bin,sqlite3,curl,rsync,procps,iproute2 \
		"$suite" "$root" ${MIRROR:+"$MIRROR"} > "$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log" >&2; exit 1; }
	echo "/dev/vda / ext4 defaults 0 1" > "$root/etc/fstab"
	echo guest > "$root/etc/hostname"
	: > "$root/etc/machine-id"
	cat > "$root/etc/systemd/system/guest.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
ExecStart=/bin/sh -c 'mkdir -p /run/in && tar -xf /dev/vdb -C /run/in && exec bash /run/in/boot-guest.sh'
END
	mkdir -p "$root/etc/systemd/system/default.target.wants"
	ln -s ../guest.service "$root/etc/systemd/system/default.target.wants/guest.service"
	cp -L "$root/vmlinuz" "$work/$suite.vmlinuz"
	cp -L "$root/initrd.img" "$work/$suite.initrd"
	mke2fs -q -t ext4 -F -d "$root" "$disk.part" 3G
	mv "$disk.part" "$disk"
	rm -rf "$root"
fi

in=$work/in
rm -rf "$in"
make install DESTDIR="$in/root" > /dev/null
cp scripts/boot-guest.sh "$in"
tar -cf "$work/in.tar" -C "$in" .
rm -rf "$in"
: > "$work/said"
: > "$work/console"
echo "booting; the console is in $work/console" >&2
timeout "${LIMIT:-1800}" qemu-system-x86_64 -accel "${ACCEL:-tcg}" -cpu max -m 1536 -smp 2 -nic none -display none -monitor none \
	-kernel "$work/$suite.vmlinuz" -initrd "$work/$suite.initrd" -append "root=/dev/vda rw console=ttyS0 quiet" -snapshot \
	-drive "file=$disk,format=raw,if=virtio" -drive "file=$work/in.tar,format=raw,if=virtio,readonly=on" \
	-serial "file:$work/console" -serial "file:$work/said" &
machine=$!
trap 'kill $machine 2> /dev/null || true' EXIT INT TERM
tail -n +1 -f --pid=$machine "$work/said" | sed -u 's/\r$//'
wait $machine || echo "the machine did not end by itself" >&2
trap - EXIT
sed 's/\r$//' "$work/said" | awk '/^ok /{ good++ } /^NOT OK /{ bad++ } /^end$/{ end = 1 } END { print good + 0 " ok, " bad + 0 " not ok"; exit !(end && good && !bad) }'
