package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/generalbots/backupd/internal/config"
	"golang.org/x/sys/unix"
)

// listen opens the address of a configuration: a TCP address, or the path of a socket behind "unix:". Without tls in the
// configuration the address must be of this host alone.
func listen(ctx context.Context, c *config.Config) (net.Listener, error) {
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
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && c.TLS == nil && !tcp.IP.IsLoopback() {
		// A name in the configuration may resolve to anything.
		l.Close()
		return nil, fmt.Errorf("%s is %s, which other hosts can reach and tokens must not travel to in the clear: add tls, or listen on 127.0.0.1", c.Listen, tcp)
	}
	return l, nil
}

// addressTaken is an address that another program has.
type addressTaken struct{ address string }

// Error names the address and who else is known to want it.
func (e *addressTaken) Error() string {
	text := "listen on " + e.address + ": another program has this address"
	if _, port, err := net.SplitHostPort(e.address); err == nil && !strings.HasPrefix(e.address, "unix:") {
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

// certificates holds the certificate in force.
type certificates struct {
	now atomic.Pointer[tls.Certificate]
}

// load reads certificate and key. After an error the one in force stays.
func (c *certificates) load(t *config.TLS) error {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", t.CertFile, err)
	}
	c.now.Store(&pair)
	return nil
}

// trouble is why clients will not take the certificate in force, as far as the clock tells.
func (c *certificates) trouble(now time.Time) error {
	pair := c.now.Load()
	if pair == nil || pair.Leaf == nil {
		return nil
	}
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate ended at %s and clients refuse it: put a new one in its place and reload", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is valid from %s only: see whether the clock is right", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// serving is TLS with the certificate in force, for each connection anew.
func (c *certificates) serving() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
}
