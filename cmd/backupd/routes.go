package main

import (
	"net/http"

	"github.com/generalbots/backupd/internal/config"
)

// routes joins the API and what stands beside it.
func (d *daemon) routes(*config.Config) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	return mux, nil
}
