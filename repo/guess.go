package repo

import "sync"

// Guess keeps how well it has gone that the new chunks of a file, or of many
// small ones, were like what stood in their place. Once it went wrong twice in
// a row the next chunks are not tried; how many grows with what was wrong, so
// that a file which was rewritten entirely costs a few tries, and one that is
// right again further on loses no more than it had lost. Safe for concurrent
// use; the zero value is ready.
type Guess struct {
	mu    sync.Mutex
	wrong int // blocks in a row that gained nothing
	lost  int // bytes in a row that gained nothing, tried or not
	skip  int // bytes not to be tried now
	try   int // bytes to be tried then
}

const (
	wrongInARow = 2
	mostSkipped = 32 << 20
)

// Skip tells whether the next n bytes are not worth a try.
func (g *Guess) Skip(n int) bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wrong < wrongInARow {
		return false
	}
	if g.skip > 0 {
		g.skip -= n
		g.lost += n
		return true
	}
	// A block's worth, of which the answer comes when the block is full; until
	// then the next are not tried either.
	if g.try -= n; g.try <= 0 {
		g.again()
	}
	return false
}

// again begins to skip.
func (g *Guess) again() { g.skip, g.try = min(g.lost, mostSkipped), BlockSize }

// note takes in what became of n bytes.
func (g *Guess) note(paid bool, n int) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if paid {
		g.wrong, g.lost, g.skip, g.try = 0, 0, 0, 0
		return
	}
	g.lost += n
	if g.wrong++; g.wrong == wrongInARow {
		g.again()
	}
}
