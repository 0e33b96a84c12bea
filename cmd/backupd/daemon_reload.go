package main

import (
	"reflect"
	"time"

	"github.com/generalbots/backupd/internal/config"
)

// Reload reads configuration, certificate and tokens again. Sources, targets, certificate and log level are in force when
// it returns; changes of anything else are named and wait for a restart. A configuration with mistakes, or a broken
// certificate, leaves what is in force; each mistake is logged.
func (d *daemon) Reload() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.super.reloading()
	defer func() { d.super.ready("listening on " + d.address.String()) }()
	if err := d.auth.Reload(); err != nil {
		d.log.Error("tokens could not be read again; nobody gets in by token until they can", "error", err)
	}
	c, err := checkedConfig(d.o.File, d.o.Credentials)
	if err != nil {
		if m, ok := err.(*mistakes); ok {
			for _, line := range m.lines() {
				d.log.Error("configuration: " + line)
			}
		} else {
			d.log.Error("configuration", "error", err)
		}
		d.log.Error("the configuration was not read again; the old one stays in force")
		return
	}
	if c.TLS != nil && d.config.TLS != nil {
		if err := d.certs.load(c.TLS); err != nil {
			d.log.Error("the certificate was not read again; the old one stays in force", "error", err)
		}
	}
	for _, key := range needRestart(d.config, c) {
		d.log.Warn("a changed key needs a restart", "key", key)
	}
	logLevel(&d.level, c)
	d.jobs.Reload(jobSources(c), jobTargets(c))
	d.config.Sources, d.config.Targets, d.config.Log.Level = c.Sources, c.Targets, c.Log.Level
	d.log.Info("configuration read again", "sources", len(c.Sources), "targets", len(c.Targets))
	d.judge(time.Now()) // whoever mended something sees it at once
}

// needRestart are the keys that differ and are only read at the start. Sections are compared whole, apart from those that
// Reload takes over.
func needRestart(old, now *config.Config) (keys []string) {
	a, b := reflect.ValueOf(old).Elem(), reflect.ValueOf(now).Elem()
	for i := range a.NumField() {
		key := a.Type().Field(i).Tag.Get("yaml")
		switch key {
		case "", "sources", "targets":
			continue
		case "log":
			if old.Log.Format != now.Log.Format {
				keys = append(keys, "log.format")
			}
			continue
		}
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			keys = append(keys, key)
		}
	}
	return keys
}
