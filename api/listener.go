package api

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// limitedListener accepts a connection only when there is a place for it; those
// that come meanwhile wait in the kernel's queue. Of one peer it takes a part of
// the places: what comes beyond is reset at once, before anything is read of it.
// This host is no such peer, as behind it are all bots and every proxy.
type limitedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
	most   int // of one peer
	log    *slog.Logger

	mu      sync.Mutex // guards the rest
	open    map[netip.Addr]int
	refused int       // since told
	told    time.Time // when the log last said that some are refused
}

func newLimitedListener(l net.Listener, most, ofPeer int, log *slog.Logger) *limitedListener {
	return &limitedListener{
		Listener: l, places: make(chan struct{}, most), closed: make(chan struct{}), most: ofPeer, log: log, open: make(map[netip.Addr]int),
	}
}

// Accept waits for a place, then for a connection that may have it.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		at := network(addressOf(c.RemoteAddr().String()))
		if l.enter(at) {
			return &placedConn{Conn: c, release: sync.OnceFunc(func() { l.leave(at); <-l.places })}, nil
		}
		if tcp, ok := c.(interface{ SetLinger(int) error }); ok {
			_ = tcp.SetLinger(0) // it only spares the kernel a farewell
		}
		c.Close()
	}
}

// enter counts a connection of a peer, unless it has as many as it may.
func (l *limitedListener) enter(at netip.Addr) bool {
	if !at.IsValid() || at.IsLoopback() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[at] < l.most {
		l.open[at]++
		return true
	}
	l.refused++
	if now := time.Now(); now.Sub(l.told) >= tellEvery {
		l.log.Warn("connections are refused, as a peer has as many as it may", "remote", at, "open", l.most, "refused", l.refused)
		l.told, l.refused = now, 0
	}
	return false
}

func (l *limitedListener) leave(at netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[at]--; l.open[at] <= 0 {
		delete(l.open, at)
	}
}

// Close ends Accept, also one that waits for a place.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	release func()
}

// Close closes the connection.
func (c *placedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
