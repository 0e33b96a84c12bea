package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"golang.org/x/term"
)

// maxSecret bounds a file with a secret in it, in bytes.
const maxSecret = 64 << 10

// credentials reads what opens the repository: what flags name; else what the environment names; else the files
// backupd-key and backupd-passphrase of $CREDENTIALS_DIRECTORY, where systemd puts them; else what a person types.
func (p *program) credentials(ctx context.Context) ([]crypto.Credential, error) {
	list, err := fromFiles(p.access.key, p.access.passphrase, p.access.recovery)
	if err != nil || len(list) > 0 {
		return list, err
	}
	list, err = fromFiles(p.env("BACKUPD_KEY_FILE"), p.env("BACKUPD_PASSPHRASE_FILE"), "")
	if err != nil || len(list) > 0 {
		return list, err
	}
	if dir := p.env("CREDENTIALS_DIRECTORY"); dir != "" {
		list, err = fromFiles(existing(dir, "backupd-key"), existing(dir, "backupd-passphrase"), "")
		if err != nil || len(list) > 0 {
			return list, err
		}
	}
	if c, ok, err := p.prompt(ctx, "Passphrase: "); ok || err != nil {
		return []crypto.Credential{c}, err
	}
	return nil, fmt.Errorf("%w: none was given: use --key-file, --passphrase-file or --recovery-file", crypto.ErrWrongKey)
}

func existing(dir, name string) string {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// fromFiles reads the credentials in the files of the given names; an empty name is none.
func fromFiles(key, passphrase, recovery string) (list []crypto.Credential, err error) {
	for _, f := range []struct {
		path string
		make func([]byte) (crypto.Credential, error)
	}{
		{key, crypto.KeyFileCredential},
		{passphrase, crypto.PassphraseCredential},
		{recovery, func(b []byte) (crypto.Credential, error) { return crypto.RecoveryCredential(string(b)) }},
	} {
		if f.path == "" {
			continue
		}
		c, err := readSecret(f.path, f.make)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// readSecret makes a credential of a file. Errors name the file and never hold what is in it.
func readSecret(path string, make func([]byte) (crypto.Credential, error)) (crypto.Credential, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return crypto.Credential{}, fmt.Errorf("%w: there is no file %s", crypto.ErrWrongKey, path)
		}
		return crypto.Credential{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	defer clear(b)
	if err != nil {
		return crypto.Credential{}, err
	}
	if len(b) > maxSecret {
		return crypto.Credential{}, fmt.Errorf("%s: %w: longer than %d bytes", path, crypto.ErrCredentialInvalid, maxSecret)
	}
	c, err := make(b)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// prompt asks for a passphrase on the terminal. ok is false when there is none.
func (p *program) prompt(ctx context.Context, question string) (c crypto.Credential, ok bool, err error) {
	b, ok, err := p.ask(ctx, question)
	if !ok || err != nil {
		return c, ok, err
	}
	defer clear(b)
	c, err = crypto.PassphraseCredential(b)
	return c, true, err
}

// promptNew asks for a new passphrase twice.
func (p *program) promptNew(ctx context.Context) (c crypto.Credential, ok bool, err error) {
	b, ok, err := p.ask(ctx, "New passphrase: ")
	if !ok || err != nil {
		return c, ok, err
	}
	defer clear(b)
	again, _, err := p.ask(ctx, "Once more: ")
	if err != nil {
		return c, true, err
	}
	defer clear(again)
	if !bytes.Equal(b, again) {
		return c, true, errors.New("the two passphrases differ")
	}
	c, err = crypto.PassphraseCredential(b)
	return c, true, err
}

// ask puts a question on the terminal of whoever sits there, if standard input or standard error tells that somebody does,
// and reads a line without echo. The terminal is as it was afterwards, also when the person gives up with an interrupt.
func (p *program) ask(ctx context.Context, question string) (line []byte, ok bool, err error) {
	if p.terminal == nil && !term.IsTerminal(int(p.stdin.Fd())) {
		return nil, false, nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, false, nil
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, false, nil
	}
	fmt.Fprint(tty, question)
	type answer struct {
		line []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		got <- answer{line, err}
	}()
	select {
	case a := <-got:
		fmt.Fprintln(tty)
		return a.line, true, a.err
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		fmt.Fprintln(tty)
		return nil, true, context.Cause(ctx)
	}
}

// keyFile reads a key file, or makes it when it is missing: mode 0600, never over an existing file, and durable before
// anything is sealed with it. undo removes what was made.
func (p *program) keyFile(path string) (c crypto.Credential, undo func(), err error) {
	undo = func() {}
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		c, err = readSecret(path, crypto.KeyFileCredential)
		return c, undo, err
	}
	b, err := crypto.NewKeyFile()
	if err != nil {
		return c, undo, err
	}
	defer clear(b)
	if c, err = crypto.KeyFileCredential(b); err != nil {
		return c, undo, err
	}
	undo = func() { _ = os.Remove(path) }
	if err := writeNew(path, b); err != nil {
		return c, undo, fmt.Errorf("key file %s: %w", path, err)
	}
	p.say("made the key file %s; keep a copy where the repository is not", printable(path))
	return c, undo, nil
}

// writeNew makes a file, mode 0600, that must not be there yet. File and name are durable when it returns.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_SYNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	dir, err := durable.OS(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return durable.SyncDirs(dir, ".")
}
