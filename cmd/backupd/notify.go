package main

import (
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// supervisor is who started the daemon and wants to know how it is: systemd, or nobody.
type supervisor struct {
	every time.Duration // a sign of life at least so often; 0: not asked for
}

func newSupervisor() supervisor {
	timeout, err := systemd.SdWatchdogEnabled(false)
	if err != nil || timeout <= 0 {
		return supervisor{}
	}
	return supervisor{every: timeout / 3}
}

// tell sends what is to be told; without a supervisor nothing. That it could not be sent shows itself, as systemd gives up
// waiting for it.
func (supervisor) tell(state string) { _, _ = systemd.SdNotify(false, state) }

func (s supervisor) ready(status string) { s.tell(systemd.SdNotifyReady + "\nSTATUS=" + status) }

func (s supervisor) stopping() { s.tell(systemd.SdNotifyStopping + "\nSTATUS=draining") }

func (s supervisor) alive() { s.tell(systemd.SdNotifyWatchdog) }

func (s supervisor) status(text string) { s.tell("STATUS=" + text) }

// reloading is followed by ready.
func (s supervisor) reloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	s.tell(systemd.SdNotifyReloading + fmt.Sprintf("\nMONOTONIC_USEC=%d", now.Nano()/1000))
}
