# Everything a person or a machine types here is one of these targets; `make` alone lists them.

GO          ?= go
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STATICCHECK := v0.8.1
FUZZTIME    ?= 30s
CRASH_SCALE ?= 4
prefix      ?= /usr/local
unitdir     ?= $(prefix)/lib/systemd/system
share        = $(DESTDIR)$(prefix)/share
# Tests that count allocations and memory: the race detector adds its own.
COUNTED     := Allocat|Memory
# What takes minutes under it; make race has them.
LENGTHY     := Megabytes|Crash|Deep|FailingStore|PowerCut|StoresLittleMore|ManyVersions

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1\t/p' $(MAKEFILE_LIST)

build: ## the static binary bin/backupd
	CGO_ENABLED=0 $(GO) build -buildvcs=auto -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/backupd ./cmd/backupd

test: need ## all tests that end within ten minutes, then what is concurrent under the race detector
	$(GO) test -timeout 20m ./...
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m -skip '$(COUNTED)|$(LENGTHY)' ./internal/durable ./internal/store ./internal/source ./internal/backup ./internal/restore
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m -run 'TestWriter_|TestLane_|TestGC_|TestOpen_|TestChain_|TestJobs_|TestQueue|TestCancel|TestWatch|TestReads_' ./repo ./internal/job ./api

race: need ## every test at full length under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 60m -skip '$(COUNTED)' ./...

check: .cache/bin/staticcheck-$(STATICCHECK) ## formatting, vet, staticcheck, the rules of the house, a tidy go.mod
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	.cache/bin/staticcheck-$(STATICCHECK) -checks all ./...
	$(GO) test -count=1 ./internal/archtest

bench: build ## measure the work of a backup beside the floors, restic, borg and kopia; writes docs/benchmarks.md (hours; BENCHFLAGS='-rows tree')
	@scripts/need.sh tar zstd xz rsync
	@scripts/need.sh restic borg sqlite3 || echo "measuring without them" >&2
	$(GO) run ./bench -disk var/bench-disk -figures var/bench/figures.json $(BENCHFLAGS)

bench-smoke: build ## a minute of ratios to the floors; fails when one stands a third above bench/smoke.json
	@scripts/need.sh tar zstd
	$(GO) run ./bench smoke $(SMOKEFLAGS)

scale: build ## growth with the number of files, time and memory of each step; writes docs/scale.csv and docs/scale.svg (SCALEFLAGS='-counts 10000,10000000')
	@scripts/need.sh rsync
	$(GO) run ./bench scale $(SCALEFLAGS)

profile: ## CPU, heap (also of its peak), mutex, block profiles and a trace of each step in var/profile, and shares.md there
	@scripts/need.sh tar xz
	CGO_ENABLED=0 $(GO) build -buildvcs=auto -tags profile -ldflags '-X main.version=$(VERSION)' -o var/profile/backupd ./cmd/backupd
	$(GO) run ./bench profile $(PROFILEFLAGS)

limits: ## what each step of the work costs by itself, from the Go benchmarks; writes var/profile/limits.md
	$(GO) run ./bench limits $(LIMITFLAGS)

neighbour: build ## measure what a PostgreSQL server feels of a backup beside it, ten minutes; needs postgresql and openssl
	scripts/neighbour.sh

fuzz: ## run every fuzz target for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME)

crash: need ## the long crash and kill batteries, CRASH_SCALE (4) times the length of make test
	CRASH_SCALE=$(CRASH_SCALE) BACKUPD_INDEX_TRIALS=$$((2500 * $(CRASH_SCALE))) $(GO) test -v -count=1 -timeout 0 -run 'Crash|Kill|Fault|PowerCut|Damage|Full' ./...

demo: build ## a daemon backs up real files, restores them, every byte is compared; DEMO=folder adds yours
	scripts/demo.sh $(DEMO)

run: build ## start the daemon on an embedded default under var/run; LISTEN=host:port, Ctrl-C ends it
	@scripts/run.sh

boot: build ## boot the systemd unit in a virtual machine and go through its life there; root; SUITE=bookworm, ACCEL=kvm
	scripts/boot.sh

install: build ## put binary, unit, example, manual pages and completions in place; DESTDIR, prefix
	install -D -m 0755 bin/backupd $(DESTDIR)$(prefix)/bin/backupd
	install -d $(DESTDIR)$(unitdir) $(share)/doc/backupd $(share)/man/man1
	sed 's|/usr/local/bin/backupd|$(prefix)/bin/backupd|' deploy/backupd.service > $(DESTDIR)$(unitdir)/backupd.service
	chmod 0644 $(DESTDIR)$(unitdir)/backupd.service
	install -m 0644 deploy/backupd.example.yaml deploy/README.md $(share)/doc/backupd
	install -m 0644 docs/man/*.1 $(share)/man/man1
	install -d $(share)/bash-completion/completions $(share)/zsh/site-functions $(share)/fish/vendor_completions.d
	bin/backupd completion bash > $(share)/bash-completion/completions/backupd
	bin/backupd completion zsh > $(share)/zsh/site-functions/_backupd
	bin/backupd completion fish > $(share)/fish/vendor_completions.d/backupd.fish

golden: ## write the golden files anew; look at the diff before committing it
	$(GO) test -count=1 $$(grep -rl 'flag.Bool("update"' --include='*_test.go' . | xargs -n1 dirname | sort -u) -args -update

clean: ## remove what make made
	rm -rf bin var .cache

need:
	@scripts/need.sh rsync getfattr setfacl strace tar bsdtar

.cache/bin/staticcheck-$(STATICCHECK):
	GOBIN=$(CURDIR)/.cache/bin $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK)
	mv .cache/bin/staticcheck $@

.PHONY: help build test race check bench bench-smoke scale profile limits neighbour fuzz crash demo run boot install golden clean need
