package target

import "fmt"

// ProblemKind says which part of the metadata is not as it was.
type ProblemKind uint8

// The kinds of problems.
const (
	// ProblemOwner: user or group. Never reported when not running as root, where it is the rule.
	ProblemOwner ProblemKind = iota + 1
	// ProblemSetID: the setuid or setgid bit was left off: not privileged, or the owner is not the one it was made for.
	ProblemSetID
	// ProblemMode: the permission bits.
	ProblemMode
	// ProblemACL: a POSIX ACL.
	ProblemACL
	// ProblemXattr: another extended attribute; its name stands in Problem.Name.
	ProblemXattr
	// ProblemCapability: the file capabilities.
	ProblemCapability
	// ProblemTrusted: an attribute of the trusted or security namespace; its name stands in Problem.Name.
	ProblemTrusted
	// ProblemDevice: the device was not made.
	ProblemDevice
	// ProblemTime: the time of modification.
	ProblemTime
)

// String is the kind in one or two words, for reports.
func (k ProblemKind) String() string {
	switch k {
	case ProblemOwner:
		return "owner"
	case ProblemSetID:
		return "setuid or setgid"
	case ProblemMode:
		return "mode"
	case ProblemACL:
		return "acl"
	case ProblemXattr:
		return "attribute"
	case ProblemCapability:
		return "capability"
	case ProblemTrusted:
		return "trusted attribute"
	case ProblemDevice:
		return "device"
	case ProblemTime:
		return "time"
	}
	return fmt.Sprintf("problem %d", uint8(k))
}

// Problem is something that could not be restored on an object that otherwise is restored.
type Problem struct {
	// Kind says what.
	Kind ProblemKind
	// Name is that of the extended attribute, else empty.
	Name string
	// Skipped: it was not tried, because Options.Privileged is off.
	Skipped bool
	// Err is what the system answered; nil when Skipped.
	Err error
}

// String is the problem as one line for a report.
func (p Problem) String() string {
	s := p.Kind.String()
	if p.Name != "" {
		s += fmt.Sprintf(" %q", p.Name)
	}
	if p.Skipped {
		return s + ": left off without privilege"
	}
	return s + ": " + p.Err.Error()
}
