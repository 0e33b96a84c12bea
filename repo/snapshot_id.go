package repo

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// snapshotIDPrefix begins every snapshot id; a lower-case ULID follows.
const snapshotIDPrefix = "backup-"

// maxCandidates is how many snapshots an error names at most.
const maxCandidates = 5

// IDSource makes snapshot ids. Ids of one source ascend strictly, also when
// the clock goes back or stands still. It is safe for concurrent use.
type IDSource struct {
	mu      sync.Mutex
	last    uint64 // guarded by mu: the latest millisecond an id was made for
	entropy *ulid.MonotonicEntropy
}

// NewIDSource returns a source of ids that are random besides their time.
func NewIDSource() *IDSource {
	return &IDSource{entropy: ulid.Monotonic(rand.Reader, 0)}
}

// Next returns a new id, "backup-" and a lower-case ULID of the time now, or
// of the last id's time when that is later. The error is the system's, out of
// randomness, or that now is no time a ULID holds (before 1970, after 10889).
func (s *IDSource) Next(now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ms := now.UnixMilli(); ms >= 0 {
		s.last = max(s.last, uint64(ms))
	}
	id, err := ulid.New(s.last, s.entropy)
	if errors.Is(err, ulid.ErrMonotonicOverflow) {
		// The random part of this millisecond is used up: take the next one.
		s.last++
		id, err = ulid.New(s.last, s.entropy)
	}
	if err != nil {
		return "", fmt.Errorf("no snapshot id could be made: %v", err)
	}
	return snapshotIDPrefix + strings.ToLower(id.String()), nil
}

// IsSnapshotID reports whether s is a whole snapshot id in its one spelling.
// It does not say that there is such a snapshot.
func IsSnapshotID(s string) bool {
	text, ok := strings.CutPrefix(s, snapshotIDPrefix)
	if !ok || text != strings.ToLower(text) {
		return false
	}
	_, err := ulid.ParseStrict(text)
	return err == nil
}

// byCreation is the order of listings: by time of creation, except that the
// snapshots of one writer stand in the order of its chain. Else a clock that
// was in the future once would leave an old snapshot the latest for years.
func byCreation(a, b *Snapshot) int {
	if c := a.order.Compare(b.order); c != 0 {
		return c
	}
	return comparePlaces(a.at, b.at)
}

// resolveSnapshot finds the snapshot that query names: "latest", an id, or
// the beginning of one that no other snapshot shares, with or without
// "backup-". list is sorted by byCreation. Anything else is ErrNotFound with
// words on what there is instead.
func resolveSnapshot(list []*Snapshot, query string) (*Snapshot, error) {
	if query == "latest" {
		if len(list) == 0 {
			return nil, fmt.Errorf("latest: %w: there is no snapshot yet", ErrNotFound)
		}
		return list[len(list)-1], nil
	}
	beginning := strings.TrimPrefix(strings.ToLower(query), snapshotIDPrefix)
	var found []*Snapshot
	if beginning != "" {
		for _, s := range list {
			if strings.HasPrefix(strings.TrimPrefix(s.ID, snapshotIDPrefix), beginning) {
				found = append(found, s)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var b strings.Builder
		for i, s := range slices.Backward(found) {
			if len(found)-i > maxCandidates {
				fmt.Fprintf(&b, ", and %d older", i+1)
				break
			}
			fmt.Fprintf(&b, ", %s of %s", s.ID, s.CreatedAt.Format(time.RFC3339))
		}
		return nil, fmt.Errorf("snapshot %q: %w: %d begin so: %s; give more of the id", query, ErrNotFound, len(found), b.String()[2:])
	case len(list) == 0:
		return nil, fmt.Errorf("snapshot %q: %w: there is no snapshot yet", query, ErrNotFound)
	}
	last := list[len(list)-1]
	return nil, fmt.Errorf("snapshot %q: %w: the latest is %s of %s", query, ErrNotFound, last.ID, last.CreatedAt.Format(time.RFC3339))
}
