package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// editTokens makes and revokes tokens beside the daemon. Each edit is a process, which is killed at a random moment or
// ends well: what it acknowledged holds.
func (b *battery) editTokens(rng *rand.Rand, dead <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-dead:
			return
		case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
		}
		var out strings.Builder
		name := fmt.Sprintf("t%x", rng.Uint64())
		run := func(args ...string) (done bool) {
			cmd := b.h.command(append([]string{"token", args[0], "--config", b.h.configFile()}, args[1:]...)...)
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				b.breaks("%v", err)
				return false
			}
			if rng.IntN(3) == 0 {
				time.AfterFunc(time.Duration(rng.IntN(40))*time.Millisecond, func() { _ = cmd.Process.Kill() }) // it may have ended
			}
			return cmd.Wait() == nil
		}
		if !run("create", "--name", name, "--role", "backup_operator") {
			continue
		}
		secret := strings.TrimSpace(out.String())
		b.mu.Lock()
		b.tokens[secret] = true
		b.acked["token"]++
		b.mu.Unlock()
		if rng.IntN(2) == 0 {
			b.mu.Lock()
			delete(b.tokens, secret) // until it is known whether it is revoked
			b.mu.Unlock()
			if run("revoke", name) {
				b.mu.Lock()
				b.tokens[secret] = false
				b.mu.Unlock()
			}
		}
	}
}
