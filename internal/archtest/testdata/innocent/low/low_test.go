package low

import (
	"testing"

	"example.org/house/low/lowtest"
)

func TestWord_IsThere(t *testing.T) { lowtest.Run(t, Word) }
