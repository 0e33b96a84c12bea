package source

import (
	"os"

	"golang.org/x/sys/unix"
)

// timelessTypes are file systems whose change time is the time of modification, or none: those that are made as an image
// and mounted read-only, in which two images made to be reproducible agree in everything lstat tells though a file
// differs; and those of FAT, where setting the time of modification back sets both.
var timelessTypes = map[int64]bool{
	unix.SQUASHFS_MAGIC:       true,
	unix.EROFS_SUPER_MAGIC_V1: true,
	unix.CRAMFS_MAGIC:         true,
	unix.ISOFS_SUPER_MAGIC:    true,
	unix.UDF_SUPER_MAGIC:      true,
	romfsMagic:                true,
	unix.MSDOS_SUPER_MAGIC:    true,
	unix.EXFAT_SUPER_MAGIC:    true,
}

const romfsMagic = 0x7275

// kernelTypes are file systems in which the kernel shows itself. They hold no data anybody could restore, some of their
// files never end, and reading some takes away what another program waits for.
var kernelTypes = map[int64]bool{
	unix.PROC_SUPER_MAGIC:    true,
	unix.SYSFS_MAGIC:         true,
	unix.DEBUGFS_MAGIC:       true,
	unix.TRACEFS_MAGIC:       true,
	unix.SECURITYFS_MAGIC:    true,
	unix.SELINUX_MAGIC:       true,
	unix.SMACK_MAGIC:         true,
	unix.CGROUP_SUPER_MAGIC:  true,
	unix.CGROUP2_SUPER_MAGIC: true,
	unix.BPF_FS_MAGIC:        true,
	unix.BINFMTFS_MAGIC:      true,
	unix.PSTOREFS_MAGIC:      true,
	unix.EFIVARFS_MAGIC:      true,
	unix.NSFS_MAGIC:          true,
}

// fileSystemType tells the type of the file system an open directory is on, as statfs numbers them. Tests replace it.
var fileSystemType = func(fd int) (int64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Fstatfs(fd, &st)
		if err == nil {
			return int64(st.Type) & 0xffffffff, nil
		}
		if err != unix.EINTR {
			return 0, os.NewSyscallError("statfs", err)
		}
	}
}

// survey finds out what the file system of d is like, once for each that is entered; one that does not tell is not
// trusted. What is to be skipped, and one of the kernel's own, is entered only when a PATH names it, or something in it.
func (d *directory) survey(fd int) {
	if s := d.scan; s.skip != nil && !d.isPath() && s.skip[place{uint64(d.st.Dev), d.st.Ino}] {
		d.whole = false
	}
	up := d.parent
	if up != nil && up.st.Ino != 0 && up.st.Dev == d.st.Dev {
		d.timeless, d.memory = up.timeless, up.memory
		return
	}
	typ, err := fileSystemType(fd)
	d.timeless = err != nil || timelessTypes[typ]
	d.memory = err == nil && memoryTypes[typ]
	if err == nil && kernelTypes[typ] && !d.isPath() {
		d.whole = false
	}
}
