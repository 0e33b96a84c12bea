// Package low wants to be a program.
package low

import (
	"flag"
	"fmt"
	log "log/slog"
	env "os"
)

var verbose = flag.Bool("v", false, "talk")

func stop() {
	if env.Getenv("HOUSE") != "" && *verbose {
		fmt.Println("leaving")
		log.Info("leaving")
	}
	env.Exit(1)
}
