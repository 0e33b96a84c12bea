package backup

import "sync"

// spare keeps a few things for use again. Unlike in a sync.Pool they outlive
// the collector, so that nothing large is made anew after each collection; what
// comes back when most are there already is left to it. Any goroutine may call.
type spare[T any] struct {
	most int
	mu   sync.Mutex // guards kept
	kept []T
}

// get returns something that was put, and whether there was any.
func (s *spare[T]) get() (v T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == 0 {
		return v, false
	}
	last := len(s.kept) - 1
	v, s.kept[last] = s.kept[last], v
	s.kept = s.kept[:last]
	return v, true
}

// put gives back what nobody uses any more.
func (s *spare[T]) put(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) < s.most {
		s.kept = append(s.kept, v)
	}
}
