package auth

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// tokenCheck is how long the file is believed not to have changed.
const tokenCheck = time.Second

// tokenWatch is the token file as requests see it: in memory, and read again when
// the file is another one.
type tokenWatch struct {
	file *Tokens
	log  *slog.Logger

	looking chan struct{} // has one item while somebody looks at the file
	seen    atomic.Pointer[tokenView]
}

// tokenView is what the file was at one look. It does not change but for checked.
type tokenView struct {
	tokens  []storedToken
	err     error // why nobody gets in; nil also for a missing file
	missing bool
	info    fs.FileInfo               // nil when there is none
	young   bool                      // changed so lately that its time may not tell the next change
	checked atomic.Pointer[time.Time] // when the last look began that found it so
}

// openWatch reads the file once. A missing file is a warning: the daemon may run
// before its first token is made. A damaged one is an error.
func openWatch(path string, log *slog.Logger) (*tokenWatch, error) {
	file, err := OpenTokens(path)
	if err != nil {
		return nil, err
	}
	w := &tokenWatch{file: file, log: log, looking: make(chan struct{}, 1)}
	if err := w.reload(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		file.Close()
		return nil, err
	}
	return w, nil
}

// after is a view from a look that began later than a moment. One request looks for
// all that wait; nobody is let in by what was true before, however slow the disk is.
func (w *tokenWatch) after(moment time.Time) (*tokenView, error) {
	if v := w.seen.Load(); v.checked.Load().After(moment) {
		return v, nil
	}
	if !w.begin() {
		// The turn did not come, as many wait for one; what another saw meanwhile is as good.
		if v := w.seen.Load(); v.checked.Load().After(moment) {
			return v, nil
		}
		return nil, errSlowLook
	}
	defer w.end()
	v := w.seen.Load()
	if v.checked.Load().After(moment) {
		return v, nil
	}
	now := time.Now()
	if info, err := w.file.inspect(); !v.same(info, err) {
		return w.read(), nil
	}
	v.checked.Store(&now)
	return v, nil
}

var errSlowLook = errors.New("the disk of the token file does not answer")

// begin waits until nobody else looks, tokenCheck at most.
func (w *tokenWatch) begin() bool {
	select {
	case w.looking <- struct{}{}:
		return true
	default:
	}
	wait := time.NewTimer(tokenCheck)
	defer wait.Stop()
	select {
	case w.looking <- struct{}{}:
		return true
	case <-wait.C:
		return false
	}
}

func (w *tokenWatch) end() { <-w.looking }

// reload reads the file whether it changed or not.
func (w *tokenWatch) reload() error {
	if !w.begin() {
		return fmt.Errorf("token file %s: %w", w.file.path, errSlowLook)
	}
	defer w.end()
	v := w.read()
	if v.missing {
		return fmt.Errorf("token file %s: %w: nobody gets in by token", w.file.path, fs.ErrNotExist)
	}
	return v.err
}

// same reports whether a look found what the view was made from. A view with an
// error is looked at again each time: it may be repaired by chmod.
func (v *tokenView) same(info fs.FileInfo, err error) bool {
	switch {
	case v.err != nil || v.young:
		return false
	case v.missing:
		return errors.Is(err, fs.ErrNotExist)
	case err != nil:
		return false
	}
	// Every edit of ours makes a new inode; size and time tell those of an editor.
	return os.SameFile(v.info, info) && v.info.Size() == info.Size() && v.info.ModTime().Equal(info.ModTime()) &&
		v.info.Mode() == info.Mode()
}

// read makes a new view. The file is inspected before it is read: a change in
// between looks like one after it.
func (w *tokenWatch) read() *tokenView {
	v := &tokenView{}
	now := time.Now()
	v.checked.Store(&now)
	var err error
	if v.info, err = w.file.inspect(); err == nil {
		v.tokens, err = w.file.read()
		age := now.Sub(v.info.ModTime())
		v.young = age > -tokenCheck && age < tokenCheck
	}
	v.missing = errors.Is(err, fs.ErrNotExist)
	if err != nil && !v.missing {
		v.tokens, v.err = nil, err
	}
	w.tell(w.seen.Load(), v)
	w.seen.Store(v)
	return v
}

// tell logs what changed, not what stays wrong.
func (w *tokenWatch) tell(old, v *tokenView) {
	switch {
	case v.err != nil && (old == nil || old.err == nil || old.err.Error() != v.err.Error()):
		w.log.Error("nobody gets in by token", "file", w.file.path, "error", v.err)
	case v.missing && (old == nil || !old.missing):
		w.log.Warn("nobody gets in by token: there is no token file; make a token", "file", w.file.path)
	case v.err == nil && !v.missing && old != nil && (old.err != nil || old.missing || !os.SameFile(old.info, v.info)):
		w.log.Info("tokens read again", "file", w.file.path, "tokens", len(v.tokens))
	}
}

// find is the token of a secret in the file as it was at most tokenCheck ago; one
// that is not there is looked for in the file as it is now, as it may be of this
// moment. A wrong secret costs a stat so.
func (w *tokenWatch) find(secret string) (*Token, *Error) {
	now := time.Now()
	hash := hashToken(secret)
	for _, moment := range []time.Time{now.Add(-tokenCheck), now} {
		v, err := w.after(moment)
		if err == nil {
			err = v.err
		}
		if err != nil {
			return nil, unavailable("tokens can not be checked now: the log of the daemon says why", 0, err)
		}
		if len(secret) != tokenLength {
			return nil, invalid("the token is not valid", errMalformed)
		}
		if t := v.token(&hash); t != nil {
			return t, nil
		}
	}
	return nil, invalid("the token is not valid", nil)
}

// token is the one with a hash. All hashes are compared whichever matches.
func (v *tokenView) token(hash *[32]byte) *Token {
	found := -1
	for i := range v.tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], v.tokens[i].hash[:]), i, found)
	}
	if found < 0 {
		return nil
	}
	return &v.tokens[found].Token
}

// authenticate judges a daemon token; basic says that it came as a password.
func (w *tokenWatch) authenticate(secret string, basic bool) (Principal, *Error) {
	t, failed := w.find(secret)
	if failed != nil {
		return Principal{}, failed
	}
	if t.Expired(time.Now()) {
		return Principal{}, expired("the token has expired: make a new one")
	}
	method := MethodToken
	if basic {
		if method = MethodBasic; !t.ServesBasic() {
			return Principal{}, invalid("this token is not for HTTP Basic: send it as bearer, or make one with --basic", nil)
		}
	}
	return Principal{Name: t.Name, Role: t.Role, Method: method, TokenID: t.ID, Expires: t.ExpiresAt}, nil
}

func (w *tokenWatch) close() error { return w.file.Close() }
