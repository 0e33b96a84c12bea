package target_test

import (
	"testing"

	"github.com/generalbots/backupd/internal/target/targettest"
)

func TestDirectory_Conforms(t *testing.T) {
	targettest.Run(t, func(t *testing.T) string { return t.TempDir() })
}
