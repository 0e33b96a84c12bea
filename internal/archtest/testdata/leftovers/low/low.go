// Package low is not done.
package low

// size is a guess.
// FIXME: measure.
const size = 1 // TODO: larger
