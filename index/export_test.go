package index

import "sync/atomic"

// The decoders of what lies on disk, for fuzzing and for cutting logs at chosen places.

func VerifyTable(data []byte) (newest uint64, err error) { return verifyTable(data) }

func VerifyLog(data []byte) (first, last uint64, end int, err error) {
	s, err := verifyLog(data)
	return s.first, s.last, s.end, err
}

func DecodeState(o Options, b []byte) (files int, err error) {
	c := newCodec(o.Key, o.Repo)
	s, err := decodeState(c.newScratch(), b)
	return len(s.files), err
}

// OpenWithSpace opens an index on a file system that has the space that free says.
func OpenWithSpace(o Options, free func() uint64) (*Index, error) {
	return open(o, func(string) (uint64, error) { return free(), nil })
}

const LogHeaderSize = logHeaderSize

// LostPages counts the writes of this process that found no space.
func LostPages() uint64 { return atomic.LoadUint64(&lostPages) }

// DropGuard gives SIGBUS back to the runtime, until the next Open.
func DropGuard() error {
	var sa kernelSigaction
	if err := sigaction(nil, &sa); err != nil {
		return err
	}
	sa.handler = goHandler
	return sigaction(&sa, nil)
}
