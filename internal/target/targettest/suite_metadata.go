package targettest

import (
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// acl builds the kernel's form of an ACL: version 2, then tag, permissions, id of every entry. Beside the three of the
// mode it gives user 4242 all rights under a mask of rwx.
func acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, ^uint32(0)}, {0x02, 7, 4242}, {0x04, 5, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

func attributesAndACLs(s *sandbox) {
	d := s.open(target.Options{Privileged: true})
	f := s.folder(d.Root(), "folder")
	m := meta(target.TypeRegular)
	m.Mode = 0o470 // no write permission left for the owner; the group's bits are the mask
	m.Xattrs = []target.Xattr{{Name: accessACL, Value: acl()}, {Name: "user.b", Value: []byte("2")}, {Name: "user.a", Value: nil}}
	problems, err := s.file(f, "file", "x", m)
	s.wantError(err, nil)
	s.wantProblems(problems)
	got := s.entry("folder/file")
	if !strings.Contains(got.Xattrs, accessACL) || !strings.Contains(got.Xattrs, `user.b="2"`) || !strings.Contains(got.Xattrs, `user.a=""`) {
		s.Errorf("file: got %+v", got)
	}
	m = meta(target.TypeDirectory)
	m.Mode = 0o570
	m.Xattrs = []target.Xattr{{Name: defaultACL, Value: acl()}, {Name: accessACL, Value: acl()}, {Name: "user.a", Value: []byte("1")}}
	problems, err = f.Finish(m)
	s.wantError(err, nil)
	s.wantProblems(problems)
	got = s.entry("folder")
	if !strings.Contains(got.Xattrs, accessACL) || !strings.Contains(got.Xattrs, defaultACL) || !strings.Contains(got.Xattrs, `user.a="1"`) {
		s.Errorf("folder: got %+v", got)
	}
	// What no file system takes is told, and the file is there all the same.
	m = meta(target.TypeRegular)
	m.Xattrs = []target.Xattr{
		{Name: "nonsense", Value: []byte("x")}, {Name: "user.", Value: []byte("x")}, {Name: "user.a\x00b"}, {Name: ""},
		{Name: "user." + strings.Repeat("x", 300)}, {Name: "user.big", Value: make([]byte, 1<<20)}, {Name: accessACL, Value: []byte("no ACL")},
	}
	problems, err = s.file(d.Root(), "odd", "x", m)
	s.wantError(err, nil)
	if len(problems) != len(m.Xattrs) {
		s.Errorf("got %v, want %d problems", problems, len(m.Xattrs))
	}
	for _, p := range problems {
		if p.Kind != target.ProblemXattr && p.Kind != target.ProblemACL || p.Err == nil || p.String() == "" {
			s.Errorf("got %v", p)
		}
	}
	s.done(d)
}

func inheritance(s *sandbox) {
	s.must(unix.Setxattr(s.root, defaultACL, acl(), 0))
	s.must(os.Chmod(s.root, 0o755|os.ModeSetgid))
	if isRoot() {
		s.must(os.Chown(s.root, 0, 4343))
		s.must(os.Chmod(s.root, 0o755|os.ModeSetgid))
	}
	d := s.open(target.Options{Privileged: true})
	f := s.folder(d.Root(), "folder")
	for _, in := range []*target.Folder{d.Root(), f} {
		_, err := s.file(in, "file", "x", nil)
		s.wantError(err, nil)
		_, _, err = in.Fifo("fifo", meta(target.TypeFIFO))
		s.wantError(err, nil)
		_, _, err = in.Symlink("link", meta(target.TypeSymlink))
		s.wantError(err, nil)
	}
	m := meta(target.TypeDirectory)
	m.Mode = 0o750
	_, err := f.Finish(m)
	s.wantError(err, nil)
	s.must(d.Close())
	for path, e := range s.walk(s.root) {
		if path == "." {
			continue
		}
		want := uint32(0o640)
		switch e.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			want = 0o750
		case unix.S_IFLNK:
			want = 0o777
		}
		if strings.Contains(e.Xattrs, "acl") || e.Mode&07777 != want || e.GID != m.GID {
			s.Errorf("%s: got %+v, want mode %o and no ACL", path, e, want)
		}
	}
	s.done(d)
}

func existingACL(s *sandbox) {
	s.must(os.Mkdir(s.in("there"), 0o700))
	s.must(unix.Setxattr(s.in("there"), defaultACL, acl(), 0))
	s.must(unix.Setxattr(s.in("there"), accessACL, acl(), 0))
	d := s.open(target.Options{})
	f := s.folder(d.Root(), "there")
	m := meta(target.TypeDirectory)
	m.Mode = 0o750
	problems, err := f.Finish(m)
	s.wantError(err, nil)
	s.wantProblems(problems)
	if got := s.entry("there"); got.Mode&07777 != 0o750 || strings.Contains(got.Xattrs, "acl") {
		s.Errorf("got %+v", got)
	}
	s.done(d)
}

func setIDs(s *sandbox) {
	d := s.open(target.Options{Privileged: true})
	self := meta(target.TypeRegular)
	self.Mode = 0o6755
	problems, err := s.file(d.Root(), "own", "x", self)
	s.wantError(err, nil)
	s.wantProblems(problems)
	if got := s.entry("own").Mode & 07777; got != 0o6755 {
		s.Errorf("own: got %o", got)
	}
	other := meta(target.TypeRegular)
	other.Mode, other.UID, other.GID = 0o6755, 12, 34
	problems, err = s.file(d.Root(), "other", "x", other)
	s.wantError(err, nil)
	got := s.entry("other")
	if isRoot() {
		s.wantProblems(problems)
		if got.Mode&07777 != 0o6755 || got.UID != 12 || got.GID != 34 {
			s.Errorf("other: got %+v", got)
		}
	} else {
		s.wantProblems(problems, target.ProblemSetID)
		if got.Mode&07777 != 0o755 {
			s.Errorf("other: got %+v", got)
		}
	}
	// The same by the number that chown takes for leave alone.
	other.UID, other.GID = ^uint32(0), ^uint32(0)
	_, err = s.file(d.Root(), "nobody", "x", other)
	s.wantError(err, nil)
	if got := s.entry("nobody").Mode & 07777; got != 0o755 {
		s.Errorf("nobody: got %o", got)
	}
	f := s.folder(d.Root(), "folder")
	m := meta(target.TypeDirectory)
	m.Mode, m.GID = 0o2755, 34
	problems, err = f.Finish(m)
	s.wantError(err, nil)
	if isRoot() {
		s.wantProblems(problems)
	} else {
		s.wantProblems(problems, target.ProblemSetID)
	}
	if got := s.entry("folder"); (got.Mode&unix.S_ISGID != 0) != isRoot() {
		s.Errorf("folder: got %+v", got)
	}
	s.done(d)
}

// fileCaps is a capability attribute: version 2, effective, CAP_NET_BIND_SERVICE.
var fileCaps = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func unprivileged(s *sandbox) {
	for _, privileged := range []bool{false, true} {
		name := map[bool]string{false: "without", true: "with"}[privileged]
		d := s.open(target.Options{Privileged: privileged})
		m := meta(target.TypeRegular)
		m.Mode = 0o4755
		m.Xattrs = []target.Xattr{{Name: "security.capability", Value: fileCaps}, {Name: "trusted.x", Value: []byte("y")}, {Name: "user.x", Value: []byte("y")}}
		problems, err := s.file(d.Root(), name, "x", m)
		s.wantError(err, nil)
		_, device, err := d.Root().Device("device"+name, &target.Meta{Type: target.TypeCharDevice, RdevMajor: 1, RdevMinor: 3, Mode: 0o666})
		s.wantError(err, nil)
		got := s.entry(name)
		_, statErr := os.Lstat(s.in("device" + name))
		switch {
		case !privileged:
			s.wantProblems(problems, target.ProblemSetID, target.ProblemTrusted, target.ProblemCapability)
			s.wantProblems(device, target.ProblemDevice)
			for _, p := range append(problems, device...) {
				if !p.Skipped || p.Err != nil {
					s.Errorf("got %+v, want it skipped", p)
				}
			}
			if got.Mode&07777 != 0o755 {
				s.Errorf("mode: got %o", got.Mode)
			}
		case isRoot():
			s.wantProblems(problems)
			s.wantProblems(device)
			if got.Mode&07777 != 0o4755 || !strings.Contains(got.Xattrs, "security.capability") || !strings.Contains(got.Xattrs, "trusted.x") {
				s.Errorf("got %+v", got)
			}
		default:
			s.wantProblems(problems, target.ProblemTrusted, target.ProblemCapability)
			s.wantProblems(device, target.ProblemDevice)
			if got.Mode&07777 != 0o4755 {
				s.Errorf("mode: got %o", got.Mode)
			}
		}
		if want := privileged && isRoot(); (statErr == nil) != want {
			s.Errorf("device: got %v, want it made: %v", statErr, want)
		}
		if !strings.Contains(got.Xattrs, `user.x="y"`) {
			s.Errorf("got %+v", got)
		}
		s.done(d)
	}
}

func ownerNames(s *sandbox) {
	for _, numeric := range []bool{false, true} {
		d := s.open(target.Options{NumericOwner: numeric})
		for name, m := range map[string]*target.Meta{
			"known":   {Type: target.TypeRegular, UID: 4141, GID: 4242, User: "root", Group: "root"},
			"unknown": {Type: target.TypeRegular, UID: 4141, GID: 4242, User: "no such user", Group: "no:such\ngroup"},
		} {
			if numeric {
				name += " by number"
			}
			problems, err := s.file(d.Root(), name, "x", m)
			s.wantError(err, nil)
			s.wantProblems(problems)
			uid, gid := uint32(4141), uint32(4242)
			switch {
			case !isRoot():
				uid, gid = uint32(os.Geteuid()), uint32(os.Getegid())
			case name == "known":
				uid, gid = 0, 0
			}
			if got := s.entry(name); got.UID != uid || got.GID != gid {
				s.Errorf("%s: got %d:%d, want %d:%d", name, got.UID, got.GID, uid, gid)
			}
		}
		s.done(d)
	}
}
