package crypto_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// A vector is a text file of "name: value" lines with a verdict; # begins a
// comment, a long value goes on in the next lines when they begin with a blank.
// Files are never changed once released: repositories were written so.
//
//	test:     derive | gear | id | sum | mac | mac-sum | pack | file | slot | key-file | recovery
//	verdict:  ok | damaged | wrong-key | slot-invalid | credential-invalid
//
// Bytes are hexadecimal, or "pattern N": N bytes 0 1 2 … 250 0 1 …, as in the
// vectors of BLAKE3.
type vector struct {
	t      testing.TB
	name   string
	fields map[string]string
}

func readVector(t testing.TB, name string) vector {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	v := vector{t, name, map[string]string{}}
	last := ""
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == ' ':
			v.fields[last] += strings.TrimSpace(line)
		default:
			field, value, ok := strings.Cut(line, ":")
			if _, dup := v.fields[field]; !ok || dup {
				t.Fatalf("%s: line %q", name, line)
			}
			last = field
			v.fields[field] = strings.TrimPrefix(value, " ")
		}
	}
	return v
}

func (v vector) text(field string) string {
	v.t.Helper()
	s, ok := v.fields[field]
	if !ok {
		v.t.Fatalf("%s: no %s", v.name, field)
	}
	return s
}

func (v vector) number(field string) uint64 {
	v.t.Helper()
	n, err := strconv.ParseUint(v.text(field), 10, 64)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

func (v vector) bytes(field string) []byte {
	v.t.Helper()
	s := v.text(field)
	if n, ok := strings.CutPrefix(s, "pattern "); ok {
		size, err := strconv.Atoi(n)
		if err != nil {
			v.t.Fatal(err)
		}
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i % 251)
		}
		return b
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		v.t.Fatal(err)
	}
	return b
}

func (v vector) key() crypto.Key { v.t.Helper(); return crypto.Key(v.bytes("key")) }

func (v vector) master() *crypto.MasterKey {
	v.t.Helper()
	m, err := crypto.MasterKeyOf([32]byte(v.bytes("master")))
	if err != nil {
		v.t.Fatal(err)
	}
	return m
}

func (v vector) credential() crypto.Credential {
	v.t.Helper()
	var c crypto.Credential
	err := errors.New("no credential")
	switch {
	case v.fields["passphrase"] != "":
		c, err = crypto.PassphraseCredential([]byte(v.text("passphrase")))
	case v.fields["key-file"] != "":
		c, err = crypto.KeyFileCredential(v.bytes("key-file"))
	case v.fields["recovery-code"] != "":
		c, err = crypto.RecoveryCredential(v.text("recovery-code"))
	}
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
	return c
}

// want compares a result with the field of that name.
func (v vector) want(field string, got []byte) {
	v.t.Helper()
	if want := v.bytes(field); !bytes.Equal(got, want) {
		v.t.Errorf("%s is %x, want %x", field, got, want)
	}
}

// run does what the vector says and returns what came of it.
func (v vector) run() error {
	v.t.Helper()
	switch test := v.text("test"); test {
	case "derive":
		k := v.master().Derive(crypto.Purpose(v.text("purpose")))
		v.want("key", k[:])
	case "gear":
		g := v.master().GearMaterial()
		sum := crypto.Sum256(g[:])
		v.want("first", g[:32])
		v.want("last", g[len(g)-32:])
		v.want("sum", sum[:])
	case "id":
		id := crypto.NewHasher(v.key()).Sum(v.bytes("input"))
		v.want("id", id[:])
	case "sum":
		sum := crypto.Sum256(v.bytes("input"))
		v.want("sum", sum[:])
	case "mac":
		tag := crypto.NewMAC(v.key()).Tag8(v.bytes("input"))
		v.want("tag", tag[:])
	case "mac-sum":
		sum := crypto.NewMAC(v.key()).Sum(v.bytes("input"))
		v.want("sum", sum[:])
	case "pack":
		s := crypto.NewPackSealer(v.key(), crypto.PackID(v.bytes("pack")))
		kind, ordinal := byte(v.number("kind")), uint32(v.number("ordinal"))
		plain, err := s.Open(nil, v.bytes("sealed"), v.bytes("aad"), kind, ordinal)
		if err != nil {
			return err
		}
		v.want("plain", plain)
		v.want("sealed", s.Seal(nil, plain, v.bytes("aad"), kind, ordinal))
	case "file":
		plain, err := crypto.OpenFile(v.key(), v.bytes("aad"), v.bytes("sealed"))
		if err != nil {
			return err
		}
		v.want("plain", plain)
	case "slot":
		m, err := crypto.OpenSlot(v.bytes("slot"), crypto.RepoID(v.bytes("repo")), v.credential())
		if err != nil {
			return err
		}
		k := m.Derive(crypto.PurposeConfig)
		v.want("config-key", k[:])
		info, err := crypto.ParseSlot(v.bytes("slot"))
		if err != nil {
			return err
		}
		got := fmt.Sprintf("%d %d %d %d %d/%d/%d %s", info.ID, info.Kind, info.Epoch, info.CreatedUnix,
			info.Params.Time, info.Params.MemoryKiB, info.Params.Threads, info.Label)
		if want := v.text("info"); got != want {
			v.t.Errorf("info is %q, want %q", got, want)
		}
	case "key-file":
		c, err := crypto.KeyFileCredential(v.bytes("contents"))
		if err != nil {
			return err
		}
		d, err := crypto.KeyFileCredential(v.bytes("secret"))
		if err != nil || !sameSecret(v.t, c, d) {
			v.t.Errorf("another secret, %v", err)
		}
	case "recovery":
		c, err := crypto.RecoveryCredential(v.text("code"))
		if err != nil {
			return err
		}
		d, err := crypto.RecoveryCredential(crypto.RecoveryCodeOf([32]byte(v.bytes("secret"))))
		if err != nil || !sameSecret(v.t, c, d) {
			v.t.Errorf("another secret, %v", err)
		}
	default:
		v.t.Fatalf("unknown test %q", test)
	}
	return nil
}

var verdicts = map[string]error{
	"ok":                 nil,
	"damaged":            crypto.ErrDamaged,
	"wrong-key":          crypto.ErrWrongKey,
	"slot-invalid":       crypto.ErrSlotInvalid,
	"credential-invalid": crypto.ErrCredentialInvalid,
}

func TestVectors(t *testing.T) {
	for _, dir := range []string{"good", "broken"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no vectors in %s, %v", dir, err)
		}
		for _, name := range files {
			t.Run(dir+"/"+filepath.Base(name), func(t *testing.T) {
				v := readVector(t, name)
				want, known := verdicts[v.text("verdict")]
				if !known || (want == nil) != (dir == "good") {
					t.Fatalf("verdict %q in %s", v.text("verdict"), dir)
				}
				if got := v.run(); !errors.Is(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}
