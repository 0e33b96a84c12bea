package pace_test

import (
	"runtime"
	"testing"

	"github.com/generalbots/backupd/internal/pace"
)

func TestSparePlace_IsNotOneMoreForWork(t *testing.T) {
	for _, c := range []struct{ cores, places int }{
		{2, 3},
		{16, 17},
		{1, 1}, // where it costs a twelfth instead
	} {
		before := runtime.GOMAXPROCS(c.cores)
		pace.SparePlace()
		if places, cores := runtime.GOMAXPROCS(0), pace.Cores(); places != c.places || cores != c.cores {
			t.Errorf("%d cores: got %d places and %d cores, want %d and %d", c.cores, places, cores, c.places, c.cores)
		}
		pace.SparePlace() // once is enough
		if places := runtime.GOMAXPROCS(0); places != c.places {
			t.Errorf("asked for twice: got %d places, want %d", places, c.places)
		}
		pace.CapCores(1.5)
		if places, cores := runtime.GOMAXPROCS(0), pace.Cores(); places != min(c.cores, 2) || cores != places {
			t.Errorf("limited to one and a half of %d cores: got %d places and %d cores", c.cores, places, cores)
		}
		runtime.GOMAXPROCS(before)
	}
}
