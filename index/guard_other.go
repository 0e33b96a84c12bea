//go:build !linux || (!amd64 && !arm64)

package index

import "errors"

var lostPages uint64

// guardWrites refuses: on this processor a full file system would end the process (see guard.go), and
// without an index everything works, only slower.
func guardWrites() error {
	return errors.New("on this processor the index is not used: a full disk could end the process")
}
