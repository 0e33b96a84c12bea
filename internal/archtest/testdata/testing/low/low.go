// Package low asks whether it is being watched.
package low

import (
	"testing"
	"testing/iotest"
)

var quiet = testing.Testing() && iotest.ErrTimeout != nil
