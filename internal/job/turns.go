package job

import "time"

// slots is who is at work on the repository. One writes at a time: a backup, or
// what publishes deletions, or what looks for changes of other processes.
// Restores go on beside the writer, and so does one verification. gc is alone.
type slots struct {
	writer    bool
	alone     bool // gc
	verifying bool
	restores  int
	guests    int // who reads without a job; see Jobs.Hold
}

// choose finds the job of a queue that may begin, -1 for none, and how long it
// takes until one may that has to pause; 0 when none has.
//
// Jobs begin in their order, apart from those that others are in the way of. A
// gc that waits holds back the writers and verifications behind it, so that they
// can not keep it out for ever, but never a restore; and while restores are what
// it waits for it holds back nobody, as one may take hours.
func (s *slots) choose(queue []*live, restores int, now time.Time) (at int, wait time.Duration) {
	held := false
	for i, l := range queue {
		if d := l.notYet.Sub(now); d > 0 && d <= pause {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		switch l.job.Kind {
		case KindBackup:
			if !s.writer && !s.alone && !held {
				return i, 0
			}
		case KindGC:
			if !s.writer && !s.alone && !s.verifying && s.restores+s.guests == 0 {
				return i, 0
			}
			held = held || s.restores == 0
		case KindVerify:
			if !s.verifying && !s.alone && !held {
				return i, 0
			}
		default:
			if !s.alone && s.restores < restores {
				return i, 0
			}
		}
	}
	return -1, wait
}

// take notes that a job of a kind begins.
func (s *slots) take(k Kind) { s.count(k, true, 1) }

// release notes that one has ended.
func (s *slots) release(k Kind) { s.count(k, false, -1) }

func (s *slots) count(k Kind, busy bool, n int) {
	switch k {
	case KindBackup:
		s.writer = busy
	case KindGC:
		s.alone = busy
	case KindVerify:
		s.verifying = busy
	default:
		s.restores += n
	}
}
