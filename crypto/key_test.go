package crypto_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
)

var purposes = []crypto.Purpose{
	crypto.PurposeDataID, crypto.PurposeTreeID, crypto.PurposePack, crypto.PurposeManifest, crypto.PurposeConfig,
	crypto.PurposeGear, crypto.PurposeIndex, crypto.PurposeRecord, crypto.PurposeTomb,
}

func master(tb testing.TB, b byte) *crypto.MasterKey {
	tb.Helper()
	m, err := crypto.MasterKeyOf([32]byte(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestDerive_GivesEachPurposeAndMasterItsOwnKey(t *testing.T) {
	seen := map[crypto.Key]string{}
	for _, b := range []byte{1, 2} {
		m := master(t, b)
		for _, p := range purposes {
			k := m.Derive(p)
			if k == (crypto.Key{}) {
				t.Errorf("%s: the key is zero", p)
			}
			if other, dup := seen[k]; dup {
				t.Errorf("master %d, %s: same key as %s", b, p, other)
			}
			seen[k] = fmt.Sprintf("master %d, %s", b, p)
			if k != m.Derive(p) {
				t.Errorf("%s: the second time another key", p)
			}
		}
	}
}

func TestGearMaterial_BeginsWithTheDerivedKey(t *testing.T) {
	m := master(t, 1)
	k, g := m.Derive(crypto.PurposeGear), m.GearMaterial()
	if !bytes.Equal(k[:], g[:32]) {
		t.Error("GearMaterial is not the long output of the same derivation")
	}
	if bytes.Equal(g[:1024], g[1024:]) {
		t.Error("the material repeats")
	}
}

func TestGenerateMasterKey_NeverRepeats(t *testing.T) {
	a, err := crypto.GenerateMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := crypto.GenerateMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	if a.Derive(crypto.PurposePack) == b.Derive(crypto.PurposePack) {
		t.Error("two master keys are the same")
	}
}

func TestMasterKey_ServesManyGoroutines(t *testing.T) {
	m := master(t, 1)
	want := m.Derive(crypto.PurposePack)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if m.Derive(crypto.PurposePack) != want {
					t.Error("another key")
				}
			}
		})
	}
	wg.Wait()
}

func TestWipe_EndsTheMasterKey(t *testing.T) {
	m := master(t, 1)
	m.Wipe()
	m.Wipe()
	c, err := crypto.KeyFileCredential(randomBytes(1, 32))
	if err != nil {
		t.Fatal(err)
	}
	for name, use := range map[string]func(){
		"Derive":       func() { m.Derive(crypto.PurposePack) },
		"GearMaterial": func() { m.GearMaterial() },
		"SealSlot":     func() { crypto.SealSlot(m, crypto.RepoID{1}, crypto.SlotInfo{}, c) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s works after Wipe", name)
				}
			}()
			use()
		}()
	}
}

func TestSecrets_PrintRedacted(t *testing.T) {
	const secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	k := crypto.Key([]byte(secret))
	m, err := crypto.MasterKeyOf([32]byte(k))
	if err != nil {
		t.Fatal(err)
	}
	c, err := crypto.PassphraseCredential([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	values := []any{k, &k, m, c, &c, crypto.NewHasher(k), crypto.NewMAC(k), crypto.NewPackSealer(k, crypto.PackID{1})}
	for _, v := range values {
		var shown []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
			if verb == "%T %v" {
				shown = append(shown, fmt.Sprintf(verb, v, v))
				continue
			}
			shown = append(shown, fmt.Sprintf(verb, v))
		}
		shown = append(shown, fmt.Sprint(v), fmt.Sprintln(v), fmt.Errorf("%w: %v", crypto.ErrWrongKey, v).Error())
		shown = append(shown, fmt.Sprint([]any{v}), fmt.Sprintf("%+v", struct{ Field any }{v}))
		for _, h := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(h(&b)).Info("key", "v", v, "inside", []any{v})
			shown = append(shown, b.String())
		}
		j, err := json.Marshal(map[string]any{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(j))
		for _, s := range shown {
			if !strings.Contains(s, "[redacted]") || strings.Contains(s, "AAA") || strings.Contains(s, "4141") || strings.Contains(s, "65 65") {
				t.Errorf("%T shows %.200q", v, s)
			}
		}
	}
}

func TestIDs_HaveOneSpelling(t *testing.T) {
	id := crypto.ID(randomBytes(1, 32))
	pack := crypto.PackID(randomBytes(2, 16))
	repo := crypto.RepoID(randomBytes(3, 16))
	if got, err := crypto.ParseID(id.String()); err != nil || got != id {
		t.Errorf("ParseID: %v, %v", got, err)
	}
	if got, err := crypto.ParsePackID(pack.String()); err != nil || got != pack {
		t.Errorf("ParsePackID: %v, %v", got, err)
	}
	if got, err := crypto.ParseRepoID(repo.String()); err != nil || got != repo {
		t.Errorf("ParseRepoID: %v, %v", got, err)
	}
	if !strings.HasPrefix(id.String(), id.Short()) || len(id.Short()) != 12 {
		t.Errorf("Short is %q of %v", id.Short(), id)
	}
	s := pack.String()
	for _, bad := range []string{"", s[1:], s + "0", strings.ToUpper("a" + s[1:]), "g" + s[1:], " " + s[1:], "-" + s[1:], s[:31] + "\n", id.String()} {
		if got, err := crypto.ParsePackID(bad); err == nil || !got.IsZero() {
			t.Errorf("ParsePackID(%q) is %v, %v", bad, got, err)
		}
	}
	type ids struct {
		I crypto.ID
		P crypto.PackID
		R crypto.RepoID
	}
	j, err := json.Marshal(ids{id, pack, repo})
	if err != nil {
		t.Fatal(err)
	}
	var back ids
	if err := json.Unmarshal(j, &back); err != nil || back != (ids{id, pack, repo}) {
		t.Errorf("through JSON %s: %v, %v", j, back, err)
	}
	if id.IsZero() || pack.IsZero() || repo.IsZero() || !(crypto.ID{}).IsZero() || !(crypto.PackID{}).IsZero() || !(crypto.RepoID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestNewPackID_NeverRepeats(t *testing.T) {
	seen := map[crypto.PackID]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				id, err := crypto.NewPackID()
				mu.Lock()
				if err != nil || id.IsZero() || seen[id] {
					t.Errorf("id %v, %v", id, err)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	a, err := crypto.NewRepoID()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := crypto.NewRepoID(); err != nil || a == b || a.IsZero() {
		t.Errorf("repository ids %v and %v, %v", a, b, err)
	}
}

// The collector may forget a master key at its last use; its page must outlive that.
func TestMasterKey_SurvivesTheCollectorInUse(t *testing.T) {
	crypto.UseMasterKey(master(t, 7), func(secret []byte) {
		for range 3 {
			runtime.GC()
			time.Sleep(5 * time.Millisecond) // cleanups run beside the collector
		}
		// Unmapped, this would fault.
		if !bytes.Equal(secret, bytes.Repeat([]byte{7}, 32)) {
			t.Error("the secret is gone")
		}
	})
}
