package repo

// delta appends the block behind a dictionary, both of which are all, as a frame
// behind dst, out of matches that are in order and do not overlap.
func (f *frameWriter) delta(dst, all []byte, dict int, found []match) ([]byte, error) {
	return f.frame(dst, all, dict, func(at, end int) { found = f.cut(all, at, end, found) })
}

// cut makes the sequences of all[at:end] and returns what is left of found.
func (f *frameWriter) cut(all []byte, at, end int, found []match) []match {
	done := at
	for len(found) > 0 && int(found[0].at) < end {
		m, n := int(found[0].at), int(found[0].n)
		offset := uint32(found[0].at - found[0].from)
		if skip := done - m; skip > 0 { // it began in the block before
			m, n = m+skip, n-skip
		}
		whole := m+n <= end
		if n = min(n, end-m); n >= matchFormat {
			f.literals = append(f.literals, all[done:m]...)
			f.add(uint32(m-done), uint32(n), f.offset(offset, m > done))
			done = m + n
		}
		if !whole {
			break
		}
		found = found[1:]
	}
	f.literals = append(f.literals, all[done:end]...)
	return found
}

// offset codes an offset: one of the last three stands for itself.
func (f *frameWriter) offset(offset uint32, literals bool) uint32 {
	r := &f.recent
	switch {
	case literals && offset == r[0]:
		return 1
	case offset == r[1]:
		r[0], r[1] = offset, r[0]
		if literals {
			return 2
		}
		return 1
	case offset == r[2]:
		r[0], r[1], r[2] = offset, r[0], r[1]
		if literals {
			return 3
		}
		return 2
	}
	r[0], r[1], r[2] = offset, r[0], r[1]
	return offset + 3
}
