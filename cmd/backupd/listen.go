package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/generalbots/backupd/internal/config"
	"golang.org/x/sys/unix"
)

// listen opens the address of a configuration: a TCP address, or the path of a socket behind "unix:". certificate gives
// the one in force; nil is plain, and then the address must be of this host alone.
func listen(ctx context.Context, c *config.Config, certificate func() *tls.Certificate) (net.Listener, error) {
	var l net.Listener
	var err error
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		l, err = listenUnix(ctx, path)
	} else {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &addressTaken{c.Listen}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && certificate == nil && !tcp.IP.IsLoopback() {
		// A name in the configuration may resolve to anything.
		l.Close()
		return nil, fmt.Errorf("%s is %s, which other hosts can reach and tokens must not travel to in the clear: add tls, or listen on 127.0.0.1", c.Listen, tcp)
	}
	l = &bounded{Listener: l, room: make(chan struct{}, c.Limits.Connections), closed: make(chan struct{})}
	if certificate != nil {
		l = tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS13,
			NextProtos: []string{"h2", "http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return certificate(), nil
			},
		})
	}
	return l, nil
}

// addressTaken is an address that another program has.
type addressTaken struct{ address string }

// Error names the address and who else is known to want it.
func (e *addressTaken) Error() string {
	text := "listen on " + e.address + ": another program has this address"
	if _, port, err := net.SplitHostPort(e.address); err == nil {
		if port == "9000" {
			text += " (on bot hosts MinIO, Zitadel, Roundcube and an embedded botserver are also set to port 9000)"
		}
		text += fmt.Sprintf("; see who with 'ss -ltnp sport = :%s', and stop that or choose another address with the key listen", port)
	}
	return text
}

// socketMode lets the owner and the group of the daemon connect.
const socketMode = 0o660

// listenUnix makes a socket. One that a dead daemon left behind is removed first; one that answers is taken.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is there and no socket: choose another path, or remove it", path)
		}
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
		if err == nil {
			c.Close()
			return nil, syscall.EADDRINUSE
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// Until the mode is set nobody else may connect. The daemon makes no other file at this time.
	old := unix.Umask(0o177)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// bounded is a listener with so many connections open at a time; further ones wait in the kernel's queue.
type bounded struct {
	net.Listener
	room   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept waits for room, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.room <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-b.room })}, nil
}

// Close ends Accept, also one that waits for room.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

// Close gives the room back.
func (c *boundedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite ends what is sent and goes on reading, as the server does after an answer to half a request.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// certificates holds the certificate in force.
type certificates struct{ now atomic.Pointer[tls.Certificate] }

// load reads certificate and key. After an error the one in force stays.
func (c *certificates) load(t *config.TLS) error {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", t.CertFile, err)
	}
	c.now.Store(&pair)
	return nil
}
