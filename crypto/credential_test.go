package crypto_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// sameSecret reports whether two credentials open each other's slots.
func sameSecret(tb testing.TB, a, b crypto.Credential) bool {
	tb.Helper()
	m, repo := master(tb, 1), crypto.RepoID{1}
	slot, err := crypto.SealSlot(m, repo, crypto.SlotInfo{Params: cheap}, a)
	if err != nil {
		tb.Fatal(err)
	}
	m.Wipe()
	opened, err := crypto.OpenSlot(slot, repo, b)
	if err == nil {
		opened.Wipe()
	}
	if err != nil && err != crypto.ErrWrongKey {
		tb.Fatal(err)
	}
	return err == nil
}

func TestPassphraseCredential_IgnoresOneLineEnd(t *testing.T) {
	want, err := crypto.PassphraseCredential([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	for typed, same := range map[string]bool{
		"correct horse\n":   true,
		"correct horse\r\n": true,
		"correct horse\n\n": false,
		"correct horse ":    false,
		" correct horse":    false,
		"Correct horse":     false,
	} {
		c, err := crypto.PassphraseCredential([]byte(typed))
		if err != nil || c.Kind() != crypto.SlotPassphrase {
			t.Fatalf("%q: %v, %v", typed, c.Kind(), err)
		}
		if got := sameSecret(t, want, c); got != same {
			t.Errorf("%q is the same passphrase: %v, want %v", typed, got, same)
		}
	}
}

func TestPassphraseCredential_RefusesWhatCanNotBeOne(t *testing.T) {
	for _, bad := range []string{"", "\n", "\r\n", "a\x00b", strings.Repeat("a", crypto.MaxPassphrase+1)} {
		if _, err := crypto.PassphraseCredential([]byte(bad)); !errors.Is(err, crypto.ErrCredentialInvalid) {
			t.Errorf("%.20q: got %v, want ErrCredentialInvalid", bad, err)
		}
	}
	if _, err := crypto.PassphraseCredential(bytes.Repeat([]byte("a"), crypto.MaxPassphrase)); err != nil {
		t.Errorf("the longest passphrase: %v", err)
	}
}

func TestPassphraseCredential_CopiesItsBytes(t *testing.T) {
	typed := []byte("correct horse")
	c, err := crypto.PassphraseCredential(typed)
	if err != nil {
		t.Fatal(err)
	}
	clear(typed)
	again, err := crypto.PassphraseCredential([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	if !sameSecret(t, c, again) {
		t.Error("the credential changed with the caller's buffer")
	}
}

func TestNewKeyFile_GivesTheSameCredentialInEveryForm(t *testing.T) {
	file, err := crypto.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	other, err := crypto.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSuffix(string(file), "\n")
	digits, ok := strings.CutPrefix(line, "backupd-key-v1 ")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != 32 {
		t.Fatalf("a key file is %d bytes, %v", len(file), err)
	}
	c, err := crypto.KeyFileCredential(file)
	if err != nil || c.Kind() != crypto.SlotKeyFile {
		t.Fatalf("%v, %v", c.Kind(), err)
	}
	for name, form := range map[string][]byte{
		"without line end": []byte(line),
		"Windows":          []byte(line + "\r\n"),
		"blank lines":      []byte(line + "\n\n \t\n"),
		"upper case":       []byte("backupd-key-v1 " + strings.ToUpper(digits)),
		"raw":              raw,
	} {
		again, err := crypto.KeyFileCredential(form)
		if err != nil || !sameSecret(t, c, again) {
			t.Errorf("%s: not the same key, %v", name, err)
		}
	}
	d, err := crypto.KeyFileCredential(other)
	if err != nil || sameSecret(t, c, d) {
		t.Errorf("two new key files open each other's slots, %v", err)
	}
}

func TestRecoveryCode_IsReadAsPeopleType(t *testing.T) {
	code, want, err := crypto.NewRecoveryCode()
	if err != nil || want.Kind() != crypto.SlotRecovery {
		t.Fatalf("%v, %v", want.Kind(), err)
	}
	groups := strings.Split(code, "-")
	if len(groups) != 14 || slices.ContainsFunc(groups, func(g string) bool { return len(g) != 4 }) {
		t.Fatalf("a code has groups of the wrong size: %d", len(groups))
	}
	for name, typed := range map[string]string{
		"as printed":   code,
		"lower case":   strings.ToLower(code),
		"no dashes":    strings.ReplaceAll(code, "-", ""),
		"spaces":       strings.ReplaceAll(code, "-", "  "),
		"two lines":    strings.Join(groups[:7], " ") + "\r\n" + strings.Join(groups[7:], " ") + "\n",
		"o for 0":      strings.ReplaceAll(code, "0", "o"),
		"O for 0":      strings.ReplaceAll(code, "0", "O"),
		"i for 1":      strings.ReplaceAll(code, "1", "i"),
		"capital L":    strings.ReplaceAll(code, "1", "L"),
		"small l":      strings.ReplaceAll(strings.ToLower(code), "1", "l"),
		"dash at ends": "-" + code + "-",
	} {
		c, err := crypto.RecoveryCredential(typed)
		if err != nil || !sameSecret(t, want, c) {
			t.Errorf("%s: not the same code, %v", name, err)
		}
	}
}

func TestRecoveryCode_FindsTypingMistakes(t *testing.T) {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	code := crypto.RecoveryCodeOf([32]byte(randomBytes(9, 32)))
	refused := func(what, typed string) {
		t.Helper()
		_, err := crypto.RecoveryCredential(typed)
		if !errors.Is(err, crypto.ErrCredentialInvalid) {
			t.Errorf("%s: got %v, want ErrCredentialInvalid", what, err)
			return
		}
		if strings.Contains(err.Error(), typed[:4]) {
			t.Errorf("%s: the error tells the code: %v", what, err)
		}
	}
	for i := range code {
		if code[i] == '-' {
			continue
		}
		for _, c := range alphabet {
			if byte(c) != code[i] {
				refused("one character", code[:i]+string(c)+code[i+1:])
			}
		}
		refused("left out", code[:i]+code[i+1:])
		refused("doubled", code[:i+1]+code[i:])
		if i+1 < len(code) && code[i+1] != '-' && code[i+1] != code[i] {
			refused("swapped", code[:i]+code[i+1:i+2]+code[i:i+1]+code[i+2:])
		}
	}
	groups := strings.Split(code, "-")
	for i := range groups {
		for j := range i {
			swapped := slices.Clone(groups)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			refused("groups swapped", strings.Join(swapped, "-"))
		}
	}
	refused("a letter no code has", "U"+code[1:])
	refused("not ASCII", "ſ"+code[1:])
	refused("too long", code+strings.Repeat(" ", 1000))
	refused("another one behind it", code+"-"+code)
	refused("zeros", crypto.RecoveryCodeOf([32]byte{}))
}

func TestCredential_OpensNothingOnceWiped(t *testing.T) {
	m, repo := master(t, 1), crypto.RepoID{1}
	c, err := crypto.KeyFileCredential(randomBytes(1, 32))
	if err != nil {
		t.Fatal(err)
	}
	slot, err := crypto.SealSlot(m, repo, crypto.SlotInfo{}, c)
	if err != nil {
		t.Fatal(err)
	}
	c.Wipe()
	for name, c := range map[string]crypto.Credential{"wiped": c, "zero": {}} {
		if _, err := crypto.OpenSlot(slot, repo, c); err != crypto.ErrWrongKey {
			t.Errorf("%s: OpenSlot gives %v, want ErrWrongKey", name, err)
		}
		if _, err := crypto.SealSlot(m, repo, crypto.SlotInfo{}, c); !errors.Is(err, crypto.ErrCredentialInvalid) {
			t.Errorf("%s: SealSlot gives %v, want ErrCredentialInvalid", name, err)
		}
	}
}

func FuzzRecoveryCredential(f *testing.F) {
	f.Add(crypto.RecoveryCodeOf([32]byte{}))
	f.Add(crypto.RecoveryCodeOf([32]byte{31: 1}))
	f.Add(crypto.RecoveryCodeOf([32]byte(randomBytes(1, 32))))
	f.Add("0000-0000")
	f.Add("")
	f.Fuzz(func(t *testing.T, code string) {
		c, err := crypto.RecoveryCredential(code)
		if err != nil {
			if !errors.Is(err, crypto.ErrCredentialInvalid) {
				t.Fatal(err)
			}
			return
		}
		// What is accepted is one code in another spelling.
		spelling := strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "", "O", "0", "I", "1", "L", "1")
		plain := spelling.Replace(strings.ToUpper(code))
		again, err := crypto.RecoveryCredential(plain)
		if err != nil || !sameSecret(t, c, again) {
			t.Fatalf("%q is accepted, its plain form %q not: %v", code, plain, err)
		}
	})
}

func FuzzKeyFileCredential(f *testing.F) {
	f.Add([]byte("backupd-key-v1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"))
	f.Add(randomBytes(1, 32))
	f.Add([]byte("correct horse battery staple 123"))
	f.Add([]byte("backupd-key-v1 "))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := crypto.KeyFileCredential(file)
		if err != nil {
			if !errors.Is(err, crypto.ErrCredentialInvalid) {
				t.Fatal(err)
			}
			return
		}
		if c.Kind() != crypto.SlotKeyFile || !sameSecret(t, c, c) {
			t.Fatal("accepted and useless")
		}
	})
}
