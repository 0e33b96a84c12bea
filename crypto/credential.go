package crypto

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// SlotKind says what opens a slot. The numbers stand in the format.
type SlotKind uint8

// The kinds of format v1. Zero is no kind.
const (
	SlotPassphrase SlotKind = 1 // argon2id of what a person types
	SlotKeyFile    SlotKind = 2 // 32 random bytes in a file
	SlotRecovery   SlotKind = 3 // 256 random bits on paper
)

// String returns "passphrase", "key file", "recovery code", or the number.
func (k SlotKind) String() string {
	switch k {
	case SlotPassphrase:
		return "passphrase"
	case SlotKeyFile:
		return "key file"
	case SlotRecovery:
		return "recovery code"
	}
	return fmt.Sprintf("slot kind %d", uint8(k))
}

// What a credential may be at most, in bytes.
const (
	MaxPassphrase = 1024 // a passphrase without its line end
	MaxKeyFile    = 256  // a key file's contents
)

// Credential is what a person or machine shows to open a slot. It prints
// [redacted]. Copies share the secret: Wipe on one wipes all.
type Credential struct {
	redacted
	kind   SlotKind
	secret []byte
}

// Kind says which slots the credential can open.
func (c Credential) Kind() SlotKind { return c.kind }

// Wipe overwrites the secret. The credential opens nothing afterwards.
func (c Credential) Wipe() { clear(c.secret) }

// wiped reports a zero Credential or one after Wipe: no constructor lets a
// secret of zeros through.
func (c Credential) wiped() bool {
	for _, b := range c.secret {
		if b != 0 {
			return false
		}
	}
	return true
}

// PassphraseCredential takes a passphrase as typed or as read from a file. One
// line end at its end is not part of it, so that a file written by an editor, by
// echo and by printf mean the same; every other byte counts. Empty ones, those
// above MaxPassphrase bytes and those with a NUL byte, which no terminal can
// enter, are ErrCredentialInvalid. The bytes are copied.
func PassphraseCredential(passphrase []byte) (Credential, error) {
	p, _ := bytes.CutSuffix(passphrase, []byte("\n"))
	p, _ = bytes.CutSuffix(p, []byte("\r"))
	switch {
	case len(p) == 0:
		return Credential{}, fmt.Errorf("%w: the passphrase is empty", ErrCredentialInvalid)
	case bytes.IndexByte(p, 0) >= 0:
		return Credential{}, fmt.Errorf("%w: the passphrase has a NUL byte", ErrCredentialInvalid)
	case len(p) > MaxPassphrase:
		return Credential{}, fmt.Errorf("%w: the passphrase is longer than %d bytes", ErrCredentialInvalid, MaxPassphrase)
	}
	return Credential{kind: SlotPassphrase, secret: bytes.Clone(p)}, nil
}

// keyFilePrefix starts a key file, so that people and scanners of leaked secrets
// recognise one.
const keyFilePrefix = "backupd-key-v1 "

// NewKeyFile returns the contents of a new key file, one line of text: the
// prefix "backupd-key-v1 ", 32 random bytes in hexadecimal, a line end.
func NewKeyFile() ([]byte, error) {
	var secret [keySize]byte
	defer clear(secret[:])
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, err
	}
	out := hex.AppendEncode([]byte(keyFilePrefix), secret[:])
	return append(out, '\n'), nil
}

// KeyFileCredential takes the contents of a key file: what NewKeyFile makes,
// white space at its end ignored, or exactly 32 raw bytes as systemd credentials
// and hardware tokens hand out. Anything else is ErrCredentialInvalid with the
// reason; so are 32 bytes of readable text, which is a passphrase in the wrong
// place and would go without the password hash that protects it.
func KeyFileCredential(contents []byte) (Credential, error) {
	if len(contents) > MaxKeyFile {
		return Credential{}, fmt.Errorf("%w: a key file has at most %d bytes, this one %d", ErrCredentialInvalid, MaxKeyFile, len(contents))
	}
	if len(contents) == keySize {
		if guessable(contents) {
			return Credential{}, fmt.Errorf("%w: the key file holds text or a repeated byte, not a random key: give it as a passphrase file, or make a new key file", ErrCredentialInvalid)
		}
		return Credential{kind: SlotKeyFile, secret: bytes.Clone(contents)}, nil
	}
	text, ok := bytes.CutPrefix(contents, []byte(keyFilePrefix))
	if !ok {
		return Credential{}, fmt.Errorf("%w: the key file neither starts with %q nor is exactly %d bytes", ErrCredentialInvalid, keyFilePrefix, keySize)
	}
	text = bytes.TrimRight(text, " \t\r\n")
	secret := make([]byte, keySize)
	if hex.DecodedLen(len(text)) != keySize || len(text)%2 != 0 {
		return Credential{}, fmt.Errorf("%w: the key file has %d digits instead of %d", ErrCredentialInvalid, len(text), hex.EncodedLen(keySize))
	}
	if _, err := hex.Decode(secret, text); err != nil {
		clear(secret)
		return Credential{}, fmt.Errorf("%w: the key file has a character that is no hexadecimal digit", ErrCredentialInvalid)
	}
	if guessable(secret) {
		return Credential{}, fmt.Errorf("%w: the key in the key file is not random", ErrCredentialInvalid)
	}
	return Credential{kind: SlotKeyFile, secret: secret}, nil
}

// guessable reports whether 32 bytes are plainly no random key: printable text
// and line ends only, or one byte over and over. A random key is so less than
// once in 10^13.
func guessable(key []byte) bool {
	if bytes.Count(key, key[:1]) == len(key) {
		return true
	}
	for _, c := range key {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}
