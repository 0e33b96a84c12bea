package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/generalbots/backupd/internal/config"
	"github.com/generalbots/backupd/internal/pace"
	"github.com/spf13/cobra"
)

// sharing is what a command leaves to others on the host. There is no flag for its priority: nice(1) and ionice(1) set it.
type sharing struct{ io, cpu string }

const sharingHelp = `

--io-limit bounds the bytes a second that are read and written, all together; --cpu-limit the processor time. To give way
without a limit, run it under nice(1) and ionice(1): nice ionice -c2 -n7 backupd …`

// shares gives a command the flags, and its context the pace that they ask for.
func (p *program) shares(c *cobra.Command) *cobra.Command {
	var s sharing
	c.Flags().StringVar(&s.io, "io-limit", "", "read and write at most `RATE` bytes a second, all together: 50M, 512K")
	c.Flags().StringVar(&s.cpu, "cpu-limit", "", "use at most so many `CORES`: 1.5, or in percent of one: 150%")
	c.Long += sharingHelp
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		ctx, err := s.pace(cmd.Context())
		if err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		cmd.SetContext(ctx)
		return nil
	}
	return c
}

func (s *sharing) pace(ctx context.Context) (context.Context, error) {
	var l pace.Limits
	if s.io != "" {
		rate, err := config.ParseSize(s.io)
		if err == nil && rate < config.MinRate {
			err = fmt.Errorf("want %s a second at least, not %s", config.MinRate, s.io)
		}
		if err != nil {
			return nil, fmt.Errorf("--io-limit: %w", err)
		}
		l.Bytes = int64(rate)
	}
	if s.cpu != "" {
		cores, err := config.ParseCores(s.cpu)
		if err == nil && cores < config.MinCores {
			err = fmt.Errorf("want %s cores at least, not %s", config.MinCores, s.cpu)
		}
		if err != nil {
			return nil, fmt.Errorf("--cpu-limit: %w", err)
		}
		l.Cores = cores.Number()
		pace.CapCores(l.Cores)
	}
	return pace.In(ctx, pace.New(l)), nil
}

const (
	// leastMemory is what --memory can ask for: below it a backup of many files spends its time collecting garbage, and
	// stays above the limit all the same.
	leastMemory config.Size = 64 << 20
	// besideHeap is anonymous memory that the collector's limit does not count, and what it comes too late for.
	besideHeap = 12 << 20
)

// memoryFor reads --memory, 0 when it was not given.
func (p *program) memoryFor() (int64, error) {
	if p.access.memory == "" {
		return 0, nil
	}
	size, err := config.ParseSize(p.access.memory)
	if err == nil && size < leastMemory {
		err = fmt.Errorf("want %s at least, not %s", leastMemory, p.access.memory)
	}
	if err != nil {
		return 0, fmt.Errorf("--memory: %w", err)
	}
	return int64(size), nil
}

// limitMemory sets the collector's soft limit once the repository is open: a passphrase takes hundreds of megabytes for a
// moment, and under the limit that moment would be spent collecting garbage. A GOMEMLIMIT stands unless --memory was given.
// Where none was given nothing has to be collected, which a short command would feel.
func (p *program) limitMemory(memory int64) {
	if takenMemory() > leastCeiling {
		debug.FreeOSMemory()
	}
	switch {
	case memory > 0:
		holdMemory(memory - besideHeap)
	case p.env("GOMEMLIMIT") == "":
		holdMemory(softMemory)
	}
}
