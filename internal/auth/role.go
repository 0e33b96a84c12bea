package auth

import (
	"fmt"
	"strings"
)

// Role is what a principal may do. The zero value is None.
type Role uint8

const (
	// None is authenticated, and allowed nothing.
	None Role = iota
	// Operator creates and lists backups.
	Operator
	// Admin does everything.
	Admin
)

// String is the role's name in token files, configuration and answers:
// "backup_operator", "admin", and "none" for None.
func (r Role) String() string {
	switch r {
	case Operator:
		return "backup_operator"
	case Admin:
		return "admin"
	}
	return "none"
}

// ParseRole reads a role that can be given to a token: "admin" or
// "backup_operator", exactly.
func ParseRole(s string) (Role, error) {
	switch s {
	case "admin":
		return Admin, nil
	case "backup_operator":
		return Operator, nil
	}
	return None, fmt.Errorf("role %q is neither admin nor backup_operator", clean(s, 40))
}

// adminNames are what the platform calls an administrator.
var adminNames = []string{"admin", "administrator", "superadmin", "super_admin"}

// operatorName is the one name of the other role.
const operatorName = "backup_operator"

// roleNames maps names of foreign credentials, in lower case, to roles.
type roleNames map[string]Role

// newRoleNames adds configured administrators. Names that mean something else
// are refused, and so are empty ones: a missing claim must never match.
func newRoleNames(more []string) (roleNames, error) {
	names := roleNames{operatorName: Operator}
	for _, n := range adminNames {
		names[n] = Admin
	}
	for _, n := range more {
		n = strings.ToLower(n)
		switch {
		case n == "" || n != clean(n, maxName) || strings.TrimSpace(n) != n:
			return nil, fmt.Errorf("admin role %q is not a name: use printable ASCII without spaces around it", clean(n, 40))
		case n == operatorName || n == "none":
			return nil, fmt.Errorf("admin role %q already means something else", n)
		}
		names[n] = Admin
	}
	return names, nil
}

// best is the highest role that any of the names gives, None when none does.
// ASCII letters alone are folded: no other letter of Unicode equals one of them.
func (names roleNames) best(claimed []string) Role {
	best := None
	for _, c := range claimed {
		if len(c) <= maxName && isASCII(c) {
			best = max(best, names[strings.ToLower(c)])
		}
	}
	return best
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// maxName bounds names of principals, tokens and roles, in bytes.
const maxName = 128

// clean makes text of strangers fit for a log line: printable ASCII, n bytes at
// most.
func clean(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
