package crypto

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// A recovery code is 35 bytes, 280 bits, in base32 with Crockford's alphabet:
// 56 characters in 14 groups.
//
//	+---------------------+-----------------------------------+
//	| 32 random bytes     | first 3 bytes of checksum(random) |
//	+---------------------+-----------------------------------+
//
//	0FJQ-ZK3M-…-7TQ1        case and separators do not count; o = 0, i = l = 1
const (
	recoveryChecksum = 3
	recoveryBytes    = keySize + recoveryChecksum
	recoveryChars    = recoveryBytes * 8 / 5
	recoveryGroup    = 4

	// maxRecoveryCode bounds what a parser looks at: room for generous spacing.
	maxRecoveryCode = 512

	recoveryContext = "backupd 2026 v1 recovery code checksum\n"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func recoveryEncoding() *base32.Encoding {
	return base32.NewEncoding(crockford).WithPadding(base32.NoPadding)
}

// NewRecoveryCode draws 256 random bits and returns them as text for paper,
// together with the credential that the text will give when typed back. The code
// is shown once and kept nowhere.
func NewRecoveryCode() (code string, c Credential, err error) {
	secret := make([]byte, keySize)
	if _, err := rand.Read(secret); err != nil {
		return "", Credential{}, err
	}
	return formatRecovery(secret), Credential{kind: SlotRecovery, secret: secret}, nil
}

// RecoveryCredential reads a recovery code as a person types it: in any case,
// with or without dashes and white space, o for 0 and i or l for 1. A code that
// was mistyped is told from a wrong one: its checksum fails, and it is
// ErrCredentialInvalid with the reason, never the code.
func RecoveryCredential(code string) (Credential, error) {
	if len(code) > maxRecoveryCode {
		return Credential{}, fmt.Errorf("%w: the recovery code is longer than %d bytes", ErrCredentialInvalid, maxRecoveryCode)
	}
	text := make([]byte, 0, recoveryChars)
	defer func() { clear(text) }()
	for _, r := range code {
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			continue
		case 'o', 'O':
			r = '0'
		case 'i', 'I', 'l', 'L':
			r = '1'
		}
		if r >= 'a' && r <= 'z' {
			r -= 'a' - 'A'
		}
		if !strings.ContainsRune(crockford, r) {
			return Credential{}, fmt.Errorf("%w: group %d of the recovery code has a character that no code contains", ErrCredentialInvalid, len(text)/recoveryGroup+1)
		}
		text = append(text, byte(r))
	}
	if len(text) != recoveryChars {
		return Credential{}, fmt.Errorf("%w: the recovery code has %d characters instead of %d", ErrCredentialInvalid, len(text), recoveryChars)
	}
	raw := make([]byte, recoveryBytes)
	if _, err := recoveryEncoding().Decode(raw, text); err != nil {
		panic("crypto: internal error: " + err.Error())
	}
	secret, sum := raw[:keySize:keySize], raw[keySize:]
	if !bytes.Equal(sum, recoverySum(secret)) {
		clear(raw)
		return Credential{}, fmt.Errorf("%w: the recovery code's checksum does not fit: a character is mistyped, or groups are swapped", ErrCredentialInvalid)
	}
	c := Credential{kind: SlotRecovery, secret: secret}
	if c.wiped() {
		return Credential{}, fmt.Errorf("%w: a recovery code of zeros is none", ErrCredentialInvalid)
	}
	return c, nil
}

func formatRecovery(secret []byte) string {
	raw := append(bytes.Clone(secret), recoverySum(secret)...)
	defer clear(raw)
	text := recoveryEncoding().EncodeToString(raw)
	var b strings.Builder
	for i := 0; i < len(text); i += recoveryGroup {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(text[i : i+recoveryGroup])
	}
	return b.String()
}

// recoverySum is the checksum of a code: it finds mistakes, it protects nothing.
func recoverySum(secret []byte) []byte {
	sum := Sum256(append([]byte(recoveryContext), secret...))
	return sum[:recoveryChecksum]
}
