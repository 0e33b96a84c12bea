package target_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/target/targettest"
)

// TestMain has the modes of what tests make be those that they name, whatever umask they were started with.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

func TestDirectory_WithstandsHostileTrees(t *testing.T) {
	targettest.Hostile(t, ramDir)
}

// TestDirectory_AsNonRoot runs the suites again as a user without any rights, where root would not see a missing one.
func TestDirectory_AsNonRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		return // they all run as such a user now
	}
	const nobody = 65534
	// The test binary lies where only its owner may go.
	dir, err := os.MkdirTemp("", "target")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program, temp := filepath.Join(dir, "target.test"), filepath.Join(dir, "tmp")
	if err := copyProgram(program); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(temp, 0o700), os.Chown(temp, nobody, nobody)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-test.run=^TestDirectory_(Conforms|WithstandsHostileTrees)$"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = temp, append(os.Environ(), "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func copyProgram(to string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// ramDir is a new directory on a RAM disk, where many small calls take less time.
func ramDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "target")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
