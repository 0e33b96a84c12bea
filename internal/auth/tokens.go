package auth

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/generalbots/backupd/internal/durable"
)

// TokenPrefix begins every daemon token, so that a leaked one is recognised.
const TokenPrefix = "bkp_"

const base32Digits = "abcdefghijklmnopqrstuvwxyz234567"

var tokenText = base32.NewEncoding(base32Digits).WithPadding(base32.NoPadding)

// tokenLength is a whole secret: the prefix and 256 bits.
var tokenLength = len(TokenPrefix) + tokenText.EncodedLen(32)

var (
	// ErrTokenNameTaken is a second token of one name.
	ErrTokenNameTaken = errors.New("there is a token of that name: revoke it first or choose another name")
	// ErrNoSuchToken is a token to revoke that is not there.
	ErrNoSuchToken = errors.New("no token has that id or name")
)

// lockWait is how long an edit waits for another process's: many may come before it, each of which takes some fsyncs.
const lockWait = 15 * time.Second

// Tokens edits a token file. Any number of processes may: each edit holds a lock
// beside the file and publishes a whole new one, which running daemons notice.
type Tokens struct {
	path string
	name string // in fs
	fs   durable.FS
}

// OpenTokens opens the token file path for editing. Its directory exists; the file
// need not.
func OpenTokens(path string) (*Tokens, error) {
	dir, name := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	root, err := durable.OS(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of the token file: %w", err)
	}
	return &Tokens{path: path, name: name, fs: root}, nil
}

// Close ends the editing.
func (t *Tokens) Close() error { return t.fs.Close() }

// CreateToken is what a new token shall be.
type CreateToken struct {
	Name    string    // letters, digits, and . _ @ - after the first; unique
	Role    Role      // Operator or Admin
	Expires time.Time // zero: never; else in the future
	Basic   bool      // may be the password of HTTP Basic; an operator's always may
}

// Create makes a token and returns its secret, which is stored nowhere and can
// not be had again. The token is durable when Create returns. Errors:
// ErrTokenNameTaken, ErrTokensDamaged (nothing is changed then), *durable.HeldError
// when another edit does not end.
func (t *Tokens) Create(c CreateToken) (secret string, made Token, err error) {
	if err := checkTokenName(c.Name); err != nil {
		return "", Token{}, err
	}
	if c.Role != Operator && c.Role != Admin {
		return "", Token{}, errors.New("a token's role is admin or backup_operator")
	}
	now := time.Now().UTC().Truncate(time.Second)
	expires := c.Expires.UTC().Truncate(time.Second)
	if c.Expires.IsZero() {
		expires = time.Time{}
	} else if !expires.After(now) || expires.Unix() > maxSeconds {
		return "", Token{}, errors.New("a token expires in the future, before the year 10000")
	}
	var random [32 + 10]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", Token{}, err
	}
	secret = TokenPrefix + tokenText.EncodeToString(random[:32])
	made = Token{ID: tokenIDPrefix + tokenText.EncodeToString(random[32:]), Name: c.Name, Role: c.Role,
		Basic: c.Basic, CreatedAt: now, ExpiresAt: expires}
	err = t.edit(func(tokens []storedToken) ([]storedToken, error) {
		if slices.ContainsFunc(tokens, func(old storedToken) bool { return old.Name == c.Name }) {
			return nil, ErrTokenNameTaken
		}
		if len(tokens) >= maxTokens {
			return nil, fmt.Errorf("there are %d tokens already: revoke some", maxTokens)
		}
		return append(tokens, storedToken{made, hashToken(secret)}), nil
	})
	if err != nil {
		return "", Token{}, err
	}
	return secret, made, nil
}

// List returns the tokens in the order they were made, expired ones included. A
// missing file has none.
func (t *Tokens) List() ([]Token, error) {
	stored, err := t.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	tokens := make([]Token, len(stored))
	for i, s := range stored {
		tokens[i] = s.Token
	}
	return tokens, nil
}

// Revoke removes the token with that id or name and returns what it was. It lets
// nobody in any more a second after Revoke returned, at once after Reload.
// Errors: ErrNoSuchToken, and those of Create.
func (t *Tokens) Revoke(idOrName string) (gone Token, err error) {
	err = t.edit(func(tokens []storedToken) ([]storedToken, error) {
		i := slices.IndexFunc(tokens, func(s storedToken) bool { return s.ID == idOrName || s.Name == idOrName })
		if i < 0 {
			return nil, ErrNoSuchToken
		}
		gone = tokens[i].Token
		return slices.Delete(tokens, i, i+1), nil
	})
	return gone, err
}

// edit reads, changes and replaces the file under the lock.
func (t *Tokens) edit(change func([]storedToken) ([]storedToken, error)) error {
	if err := t.mine(); err != nil {
		return err
	}
	lock, err := t.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	tokens, err := t.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if tokens, err = change(tokens); err != nil {
		return err
	}
	data, err := encodeTokens(tokens)
	if err != nil {
		return err
	}
	return durable.ReplaceFile(t.fs, t.name, data)
}

// lock waits for other edits, which take milliseconds.
func (t *Tokens) lock() (io.Closer, error) {
	end := time.Now().Add(lockWait)
	for {
		lock, err := t.fs.Lock(t.name+".lock", durable.Exclusive, strconv.Itoa(os.Getpid()))
		var held *durable.HeldError
		if !errors.As(err, &held) || time.Now().After(end) {
			return lock, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (t *Tokens) read() ([]storedToken, error) {
	if _, err := t.inspect(); err != nil {
		return nil, err
	}
	data, err := durable.ReadFile(t.fs, t.name, maxTokenFile)
	if err != nil {
		return nil, err
	}
	return decodeTokens(data)
}

// inspect describes the file and refuses one that others may read or write: it
// decides who is an administrator.
func (t *Tokens) inspect() (fs.FileInfo, error) {
	if t.path == "" {
		return nil, nil
	}
	info, err := os.Lstat(t.path)
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("token file %s is not a regular file", t.path)
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may open the token file %s: look who changed it, then chmod 600 it", t.path)
	}
	if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() && uid != 0 {
		return nil, fmt.Errorf("token file %s belongs to user %d, who could let anybody in: chown it to the user of the daemon", t.path, uid)
	}
	return info, nil
}

// mine keeps root from replacing the file of the daemon's user by one that the
// daemon can not read, which would lock everybody out.
func (t *Tokens) mine() error {
	if t.path == "" {
		return nil
	}
	info, err := os.Stat(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() {
		return fmt.Errorf("the directory of the token file belongs to user %d: edit tokens as that user", uid)
	}
	return nil
}
