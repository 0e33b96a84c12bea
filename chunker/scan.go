package chunker

// scan returns the length of the shortest prefix of data that is longer than
// from and whose Gear hash is below limit, or 0. from is at least window-1.
func scan(gear *[256]uint64, data []byte, from int, limit uint64) int {
	if from >= len(data) {
		return 0
	}
	var h uint64
	for _, b := range data[from-(window-1) : from] {
		h = h<<1 + gear[b]
	}
	for i, b := range data[from:] {
		h = h<<1 + gear[b]
		if h < limit {
			return from + i + 1
		}
	}
	return 0
}
