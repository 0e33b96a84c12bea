package target_test

import (
	"testing"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/internal/target/targettest"
)

func TestDirectory_Conforms(t *testing.T) {
	targettest.Run(t, func(t *testing.T) string { return t.TempDir() })
}

func TestDirectory_ConformsWithoutUnnamedFiles(t *testing.T) {
	defer target.NameFiles()()
	targettest.Run(t, ramDir)
}

func TestDirectory_WithstandsHostileTreesWithoutUnnamedFiles(t *testing.T) {
	defer target.NameFiles()()
	targettest.Hostile(t, ramDir)
}
