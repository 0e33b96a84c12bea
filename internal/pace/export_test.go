package pace

import "time"

// ProcessTime is the processor time of this process.
var ProcessTime = processTime

// Pause is how long who passes now waits for the processors.
func (p *Pace) Pause() time.Duration { return p.cores.pause() }
