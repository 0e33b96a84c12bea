package target

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	capability = "security.capability"
	setIDs     = unix.S_ISUID | unix.S_ISGID
)

// errWrongOwner is why a setuid or setgid bit stays off.
var errWrongOwner = errors.New("the file belongs to another user or group than it was made for")

// apply sets m on o, whose state is st.
//
// The order is not free. chown clears setuid and capabilities, so it comes first, and a setuid bit is set only on what
// then has the right owner. user.* attributes come before chmod, as setting them needs write permission that the final
// mode may not give. An ACL comes after chmod, which would change its mask; capabilities after everything that clears
// them; the time last, as nothing later may touch the inode.
//
// inherited says that o may have got an ACL from the folder it was made in.
func (d *Directory) apply(o object, st *unix.Stat_t, m *Meta, inherited bool) (problems []Problem) {
	add := func(kind ProblemKind, name string, err error) {
		problems = append(problems, Problem{Kind: kind, Name: name, Err: err})
	}
	uid, gid := d.owner(m)
	if st.Uid != uid || st.Gid != gid {
		if err := d.chown(o, st, uid, gid); err != nil {
			add(ProblemOwner, "", err)
		}
	}
	isLink, isDir := m.Type == TypeSymlink, m.Type == TypeDirectory
	for _, x := range m.Xattrs {
		if classOf(x.Name) == classUser {
			if err := setXattr(o, x); err != nil {
				add(ProblemXattr, x.Name, err)
			}
		}
	}
	if inherited && !isLink {
		if err := o.removexattr(aclAccess); err != nil {
			add(ProblemACL, aclAccess, err)
		}
		if isDir {
			if err := o.removexattr(aclDefault); err != nil {
				add(ProblemACL, aclDefault, err)
			}
		}
	}
	if !isLink {
		problems = d.applyMode(o, st, m, uid, gid, inherited, problems)
	}
	if len(m.Xattrs) > 0 {
		problems = d.applyXattrs(o, m, problems)
	}
	if err := o.utimens(m.Mtime); err != nil {
		add(ProblemTime, "", err)
	}
	return problems
}

// owner gives the numbers that m's file is to belong to.
func (d *Directory) owner(m *Meta) (uid, gid uint32) {
	if d.options.NumericOwner {
		return m.UID, m.GID
	}
	return d.owners.of(m)
}

// chown changes owner and group and notes in st what came of it. Who is not root can give a file to a group of theirs
// at most; that the rest stays as it is is no error.
func (d *Directory) chown(o object, st *unix.Stat_t, uid, gid uint32) error {
	const unchanged = ^uint32(0) // chown's word for leave alone, which no file belongs to
	if d.superuser {
		if uid == unchanged || gid == unchanged {
			return unix.EINVAL
		}
		if err := o.chown(int(uid), int(gid)); err != nil {
			return err
		}
		st.Uid, st.Gid = uid, gid
	} else if gid != st.Gid && gid != unchanged && o.chown(-1, int(gid)) == nil {
		st.Gid = gid
	}
	return nil
}

// applyMode sets the mode, without the bits that must not be there.
func (d *Directory) applyMode(o object, st *unix.Stat_t, m *Meta, uid, gid uint32, inherited bool, problems []Problem) []Problem {
	mode := m.Mode
	if mode&setIDs != 0 {
		// Asked again: some file systems accept a chown and do nothing.
		var now unix.Stat_t
		err := unix.Fstat(o.fd, &now)
		switch {
		case err != nil:
			mode &^= setIDs
			problems = append(problems, Problem{Kind: ProblemSetID, Err: err})
		case m.Type != TypeDirectory && !d.options.Privileged:
			mode &^= setIDs
			problems = append(problems, Problem{Kind: ProblemSetID, Skipped: true})
		case mode&unix.S_ISUID != 0 && now.Uid != uid || mode&unix.S_ISGID != 0 && now.Gid != gid:
			mode &^= setIDs
			problems = append(problems, Problem{Kind: ProblemSetID, Err: errWrongOwner})
		}
	}
	if !inherited && st.Mode != unknownMode && st.Mode&07777 == mode && mode&setIDs == 0 {
		return problems
	}
	err := o.chmod(mode)
	if err != nil && mode&setIDs != 0 {
		// A service may be forbidden these bits (RestrictSUIDSGID of systemd): the rest of the mode is set all the same,
		// or a folder would stay closed to all.
		if o.chmod(mode&^setIDs) == nil {
			return append(problems, Problem{Kind: ProblemSetID, Err: err})
		}
	}
	if err != nil {
		return append(problems, Problem{Kind: ProblemMode, Err: err})
	}
	if mode&setIDs != 0 {
		// The kernel drops a setgid bit in silence when the caller is not of the group.
		var now unix.Stat_t
		if err := unix.Fstat(o.fd, &now); err == nil && now.Mode&setIDs != mode&setIDs {
			problems = append(problems, Problem{Kind: ProblemSetID, Err: unix.EPERM})
		}
	}
	return problems
}

// class sorts attributes by when they are set and who may set them.
type class uint8

const (
	classUser class = iota
	classACL
	classOther
	classTrusted
	classCapability
)

func classOf(name string) class {
	switch {
	case strings.HasPrefix(name, "user."):
		return classUser
	case name == aclAccess || name == aclDefault:
		return classACL
	case name == capability:
		return classCapability
	case strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security."):
		return classTrusted
	}
	return classOther
}

// applyXattrs sets all but the user.* attributes, class by class.
func (d *Directory) applyXattrs(o object, m *Meta, problems []Problem) []Problem {
	kinds := [...]ProblemKind{classACL: ProblemACL, classOther: ProblemXattr, classTrusted: ProblemTrusted, classCapability: ProblemCapability}
	for c := classACL; c <= classCapability; c++ {
		for _, x := range m.Xattrs {
			if classOf(x.Name) != c {
				continue
			}
			if c >= classTrusted && !d.options.Privileged {
				problems = append(problems, Problem{Kind: kinds[c], Name: x.Name, Skipped: true})
			} else if err := setXattr(o, x); err != nil {
				problems = append(problems, Problem{Kind: kinds[c], Name: x.Name, Err: err})
			}
		}
	}
	return problems
}

func setXattr(o object, x Xattr) error {
	if x.Name == "" || len(x.Name) > maxName || strings.IndexByte(x.Name, 0) >= 0 || len(x.Value) > maxXattr {
		return ErrMeta
	}
	return o.setxattr(x.Name, x.Value)
}
