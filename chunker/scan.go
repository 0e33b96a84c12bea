package chunker

const (
	scanBlock = 512 // bytes behind one bounds check
	scanStep  = 16  // bytes per turn of the unrolled loop
)

// scan returns the length of the shortest prefix of data that is longer than
// from and whose Gear hash is below limit, or 0. from is at least window-1.
//
// The plain loop at its end is the definition; alone it does 1.4 GB/s on a core
// that does 2.6 this way. Each hash waits for the one before, two cycles a byte,
// so the loop before it takes two bytes at once (FastCDC 2020): what both bytes
// add is summed beside the chain, and the chain is one instruction for the two.
// It only skips steps in which no hash is below limit; at the first other one it
// leaves the decision to the plain loop. Constant bounds save it all index checks.
// Several lanes far apart gain nothing over this: the limit now is how many
// instructions a byte takes.
func scan(gear *[256]uint64, data []byte, from int, limit uint64) int {
	if from >= len(data) {
		return 0
	}
	h := warm(gear, data[from-(window-1):from])
blocks:
	for len(data)-from >= scanBlock {
		d := (*[scanBlock]byte)(data[from:])
		for i := 0; i < scanBlock-(scanStep-1); i += scanStep {
			var a, b uint64
			a = gear[d[i]]
			b = 2*a + gear[d[i+1]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+2]]
			b = 2*a + gear[d[i+3]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+4]]
			b = 2*a + gear[d[i+5]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+6]]
			b = 2*a + gear[d[i+7]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+8]]
			b = 2*a + gear[d[i+9]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+10]]
			b = 2*a + gear[d[i+11]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+12]]
			b = 2*a + gear[d[i+13]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}

			a = gear[d[i+14]]
			b = 2*a + gear[d[i+15]]
			if 2*h+a < limit {
				break blocks
			}
			if h = 4*h + b; h < limit {
				break blocks
			}
			from += scanStep
		}
	}
	h = warm(gear, data[from-(window-1):from])
	for i, b := range data[from:] {
		if h = h<<1 + gear[b]; h < limit {
			return from + i + 1
		}
	}
	return 0
}

// warm returns the hash of the bytes before a scan, window-1 of them.
func warm(gear *[256]uint64, data []byte) uint64 {
	var h uint64
	for _, b := range data {
		h = h<<1 + gear[b]
	}
	return h
}
