package index

import "fmt"

// UnusableError says why an index can not be used. The caller goes on without it, or resets it.
type UnusableError struct {
	Dir    string
	Reason string
	// Locked: another opener holds it. It is fine, and must be left alone.
	Locked bool
	// Resettable: the files are of no use to anybody; [Reset] and open anew. False when the cause is
	// outside: locked, no space, no permission, closed.
	Resettable bool
}

// Error names the directory and the reason.
func (e *UnusableError) Error() string {
	return fmt.Sprintf("index %s is unusable: %s", e.Dir, e.Reason)
}

func damaged(dir, format string, args ...any) error {
	return &UnusableError{Dir: dir, Reason: fmt.Sprintf(format, args...), Resettable: true}
}

func unavailable(dir string, err error) error {
	return &UnusableError{Dir: dir, Reason: err.Error()}
}

func closedError(dir string) error {
	return &UnusableError{Dir: dir, Reason: "closed"}
}
