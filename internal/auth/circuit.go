package auth

import (
	"errors"
	"sync"
	"time"
)

const (
	circuitFailures = 3 // in a row open it
	circuitFirst    = 2 * time.Second
	circuitLast     = 30 * time.Second
)

var errCircuit = errors.New("the provider failed lately and is not asked")

// circuit keeps a dead provider from holding up every request for its timeout.
// After some failures in a row nothing is asked for a while, then one question
// probes; each probe that fails doubles the while. The zero value is closed.
type circuit struct {
	mu      sync.Mutex // guards the rest
	row     int        // failures since the last success
	opened  int        // times in a row
	until   time.Time
	probing bool
}

// wait is 0 when a question may be asked, whose end is then reported with worked,
// failed or cancelled.
func (c *circuit) wait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened == 0 {
		return 0
	}
	if wait := time.Until(c.until); wait > 0 {
		return wait
	}
	if c.probing {
		return time.Second
	}
	c.probing = true
	return 0
}

// worked closes the circuit and reports whether it was open.
func (c *circuit) worked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.opened > 0
	c.row, c.opened, c.probing = 0, 0, false
	return was
}

// failed counts a failure and reports whether it opened a closed circuit, and for
// how long.
func (c *circuit) failed() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row++
	// Failures of questions that were under way when it opened do not open it more.
	if c.row < circuitFailures || c.opened > 0 && !c.probing {
		return 0, false
	}
	c.probing = false
	wait := min(circuitLast, circuitFirst<<min(c.opened, 10))
	c.opened++
	c.until = time.Now().Add(wait)
	return wait, c.opened == 1
}

// cancelled takes a question back.
func (c *circuit) cancelled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = false
}
