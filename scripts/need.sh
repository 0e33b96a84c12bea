#!/bin/sh
# need.sh COMMAND... makes sure the commands exist, and installs Debian's packages for those that do not.
set -eu

package() {
	case $1 in
	getfattr | setfattr) echo attr ;;
	getfacl | setfacl) echo acl ;;
	setcap | getcap) echo libcap2-bin ;;
	borg) echo borgbackup ;;
	bsdtar) echo libarchive-tools ;;
	xz) echo xz-utils ;;
	qemu-system-x86_64) echo qemu-system-x86 ;;
	mke2fs) echo e2fsprogs ;;
	*) echo "$1" ;;
	esac
}

# Debian keeps some of these out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin
missing=
for command in "$@"; do
	command -v "$command" >/dev/null 2>&1 || missing="$missing $(package "$command")"
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
	root="sudo -n"
	if ! sudo -n true 2>/dev/null; then
		echo "missing:$missing" >&2
		echo "install them (Debian: apt-get install$missing), or run this as root" >&2
		exit 1
	fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing:$missing; there is no apt-get here, install them as this system does" >&2
	exit 1
fi
echo "installing$missing" >&2
install="$root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends$missing"
$install >/dev/null 2>&1 || { $root apt-get update >&2 && $install >&2; }
