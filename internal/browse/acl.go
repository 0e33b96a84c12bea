package browse

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// paxACL names the records that hold ACLs as text: GNU tar and libarchive read
// these and no attribute of the kernel's name.
var paxACL = map[string]string{
	"system.posix_acl_access":  "SCHILY.acl.access",
	"system.posix_acl_default": "SCHILY.acl.default",
}

// aclText is an ACL of the kernel's form, version 2, as text with numbers of users
// and groups; "" when it is none.
func aclText(v []byte) string {
	const head, size = 4, 8
	if len(v) < head || len(v)%size != head || binary.LittleEndian.Uint32(v) != 2 {
		return ""
	}
	var b strings.Builder
	for v = v[head:]; len(v) > 0; v = v[size:] {
		tag, perm, id := binary.LittleEndian.Uint16(v), binary.LittleEndian.Uint16(v[2:]), binary.LittleEndian.Uint32(v[4:])
		who := ""
		if tag == 0x02 || tag == 0x08 {
			who = strconv.FormatUint(uint64(id), 10)
		}
		kind := map[uint16]string{0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}[tag]
		if kind == "" || perm > 7 {
			return ""
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(kind + ":" + who + ":")
		for i, letter := range []byte("rwx") {
			if perm&(4>>i) == 0 {
				letter = '-'
			}
			b.WriteByte(letter)
		}
	}
	return b.String()
}
