package auth

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
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

	mu   sync.Mutex // held while the file is looked at; guards nothing that requests read
	seen atomic.Pointer[tokenView]
}

// tokenView is what the file was at one look. It does not change but for checked.
type tokenView struct {
	tokens  []storedToken
	err     error // why nobody gets in; nil also for a missing file
	missing bool
	info    fs.FileInfo // nil when there is none
	young   bool        // changed so lately that its time may not tell the next change
	checked atomic.Pointer[time.Time]
}

// openWatch reads the file once. A missing file is a warning: the daemon may run
// before its first token is made. A damaged one is an error.
func openWatch(path string, log *slog.Logger) (*tokenWatch, error) {
	file, err := OpenTokens(path)
	if err != nil {
		return nil, err
	}
	w := &tokenWatch{file: file, log: log}
	if err := w.reload(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		file.Close()
		return nil, err
	}
	return w, nil
}

// current is the newest view, at most tokenCheck old. Only one request looks at
// the file, the others take what there is: a slow disk holds nobody.
func (w *tokenWatch) current() *tokenView {
	v := w.seen.Load()
	if time.Since(*v.checked.Load()) < tokenCheck || !w.mu.TryLock() {
		return v
	}
	defer w.mu.Unlock()
	info, err := w.file.inspect()
	if v.same(info, err) {
		now := time.Now()
		v.checked.Store(&now)
		return v
	}
	return w.read()
}

// reload reads the file whether it changed or not.
func (w *tokenWatch) reload() error {
	w.mu.Lock()
	defer w.mu.Unlock()
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

// authenticate judges a daemon token; basic says that it came as a password. All
// hashes are compared whichever matches.
func (w *tokenWatch) authenticate(secret string, basic bool) (Principal, *Error) {
	v := w.current()
	if v.err != nil {
		return Principal{}, unavailable("tokens can not be checked now: the log of the daemon says why", 0, v.err)
	}
	if len(secret) != tokenLength {
		return Principal{}, invalid("the token is not valid", errMalformed)
	}
	hash := hashToken(secret)
	found := -1
	for i := range v.tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], v.tokens[i].hash[:]), i, found)
	}
	if found < 0 {
		return Principal{}, invalid("the token is not valid", nil)
	}
	t := v.tokens[found].Token
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
