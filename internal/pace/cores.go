package pace

import (
	"math"
	"runtime"
	"sync/atomic"
)

// spare is 1 once the runtime has a place more than Cores.
var spare atomic.Int32

// Cores is how many processors this process may use: for as many goroutines that compute is there room. It is 1 at least.
func Cores() int { return max(1, runtime.GOMAXPROCS(0)-int(spare.Load())) }

// SparePlace gives the runtime a place to run goroutines at more than there are processors, unless there is only one. A
// thread keeps its place in a system call that reads a mebibyte, or waits for another that writes into the same file, for
// as long as nobody takes it away, and has none when it comes back and it was taken; either way a processor stood still for
// a twentieth of a backup and a tenth of a restore (docs/performance.md). The number does not follow a control group's quota
// any more. For main, before it begins, where the environment sets no GOMAXPROCS.
func SparePlace() {
	if n := runtime.GOMAXPROCS(0); n > 1 && spare.CompareAndSwap(0, 1) {
		runtime.GOMAXPROCS(n + 1)
	}
}

// CapCores lowers Cores to what a limit of so many leaves work for: more would only take turns at standing still. It has
// no spare place, which would be one for what is held back. For main, before it begins.
func CapCores(limit float64) {
	n := min(Cores(), max(1, int(math.Ceil(limit))))
	spare.Store(0)
	runtime.GOMAXPROCS(n)
}
