package main

import (
	"runtime"
	"runtime/debug"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// versionValue is what version prints.
type versionValue struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go_version"`
	Format  int    `json:"format_version"`
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of the program, of Go and of the repository format",
		Example: "  backupd version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionValue{Version: version, Commit: commit(), Go: goVersion(), Format: repo.FormatVersion}
			if p.json {
				return p.value(v)
			}
			p.print("backupd %s", v.Version)
			p.print("commit  %s", v.Commit)
			p.print("go      %s", v.Go)
			p.print("format  %d", v.Format)
			return nil
		},
	}
}

func goVersion() string { return runtime.Version() }

// commit is what the source was built from, as the build recorded it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return rev + dirty
}
