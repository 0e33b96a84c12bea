// Package lowtest is the suite of low.
package lowtest

import (
	"testing"

	"example.org/house/low"
)

// Run runs the suite.
func Run(t *testing.T, word string) {
	if word != low.Word {
		t.Error(word)
	}
}
