# What one does with the sources. `make test` is all that a change must pass.
#
# Conventions of the tests:
#   TestFigures…  measures time or memory. `make figures` runs it, without the race
#                 detector, which would falsify it, one package at a time.
#   TestSoak…     runs for as long as $BANMESH_SOAK says. Only `make soak` runs it.
#   Fuzz…         its seeds and what was ever found run with the other tests;
#                 `make fuzz` looks further, $(FUZZTIME) each.
#   rapid.Check   draws from one seed in each `make test`, so that no change fails by
#   need.Seed     chance. `make fuzz` and `make soak` draw from new ones.
#   need.…        a test says with package internal/need what it needs beyond Go. Where
#                 that is missing it skips, and fails where BANMESH_ALL=1 or CI=true.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.ONESHELL:

# What go.mod and go.sum pin, and nothing else.
export GOFLAGS := $(GOFLAGS) -mod=readonly

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# The tag leaves out the CLI library's Markdown, which every start would pay for.
STATIC   = CGO_ENABLED=0 go build -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

ARCHES ?= amd64 arm64
PACKAGERS ?= deb rpm apk ipk
COMMANDS ?= banmesh banmesh-hook banmesh-fail2ban
DIST   ?= dist
BIN    ?= bin

TIMEOUT   ?= 30m
TESTFLAGS ?=
FUZZTIME  ?= 10s
SOAK      ?= 10m
PKG       ?= ./mesh/leader
N         ?= 300
SEED      ?= 1
SHORT     ?= true
# Where the tests of the page keep what the browser showed.
export BANMESH_SHOTS ?= $(CURDIR)/bin/screenshots

## build: the static binaries, bin/banmesh, bin/banmesh-hook and bin/banmesh-fail2ban
.PHONY: build
build:
	$(STATIC) -o $(BIN)/ $(COMMANDS:%=./cmd/%)

## cross: the static binaries of both platforms, bin/linux-*/banmesh
.PHONY: cross
cross:
	@for arch in amd64 arm64; do
		GOOS=linux GOARCH=$$arch $(STATIC) -o bin/linux-$$arch/banmesh ./cmd/banmesh
		GOOS=linux GOARCH=$$arch $(STATIC) -o bin/linux-$$arch/ ./cmd/banmesh-hook ./cmd/banmesh-fail2ban
		go version -m bin/linux-$$arch/banmesh | grep -q 'CGO_ENABLED=0'
	done

## package: .deb, .rpm, .apk and .ipk of both platforms, dist/; the same sources give the same bytes
.PHONY: package
package:
	@$(STATIC) -o $(BIN)/banmesh ./cmd/banmesh
	for arch in $(ARCHES); do
		if [ $$arch = $$(go env GOHOSTARCH) ]; then
			install -D $(BIN)/banmesh $(BIN)/linux-$$arch/banmesh
		else
			GOOS=linux GOARCH=$$arch $(STATIC) -o $(BIN)/linux-$$arch/banmesh ./cmd/banmesh
		fi
		GOOS=linux GOARCH=$$arch $(STATIC) -o $(BIN)/linux-$$arch/ ./cmd/banmesh-hook ./cmd/banmesh-fail2ban
	done
	VERSION='$(VERSION)' PACKAGERS='$(PACKAGERS)' .ci/package/build '$(DIST)' '$(BIN)' $(ARCHES)

## image: an OCI image layout of both platforms, dist/image, without a daemon
.PHONY: image
image: cross
	rm -rf '$(DIST)/image'
	export SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)}
	go run .ci/package/oci.go '$(DIST)/image' '$(VERSION)' amd64=bin/linux-amd64 arm64=bin/linux-arm64

## deps: the Debian packages that the tests need; as root where one is missing
.PHONY: deps
deps:
	@.ci/deps

# Those of the environment, where somebody looks for something.
SEEDS = RAPID_SEED=$${RAPID_SEED:-1} BANMESH_SEED=$${BANMESH_SEED:-1}

## check: the inner loop: lint, and all tests that need no root, no packages and no minutes
.PHONY: check
check:
	@.ci/lint
	$(SEEDS) go test -short -p $$(($$(nproc) * 2)) -parallel 8 -skip '^(TestFigures|TestSoak)' ./... | { grep -v 'no test files' || true; }

# What vet finds, .ci/lint says.
TEST = $(SEEDS) BANMESH_ALL=1 go test -json -vet=off -timeout $(TIMEOUT) -skip '^(TestFigures|TestSoak)' $(TESTFLAGS)
RACE = env CGO_ENABLED=1 $(TEST) -race
# The tests of whole programs start them as they are shipped, without the race detector:
# it would watch the tests alone. Compiled as make cross does.
WHOLE = env CGO_ENABLED=0 $(TEST) -trimpath -tags urfave_cli_no_docs ./cmd/banmesh/e2e
# Those that take longest. The others, which mostly wait, follow with twice as many at a time.
LONG = ./mesh/gossip ./mesh/conductor/... ./store ./mesh/fail2ban ./mesh ./internal/sim/...
# How many seconds `make test` may take, 0: as long as it wants.
MOST ?= 0

## test: everything, all but whole programs with the race detector; ends with a line that counts the tests
.PHONY: test
test: deps cross
	@go build -o $(BIN)/testsum .ci/testsum.go
	# A command that fails is an event like others: which tests failed, and whether
	# for good, testsum knows.
	failed() {
		local status=$$? action=failed
		[ $$status -lt 124 ] || action=cut # by timeout, or a signal
		echo "{\"Action\":\"$$action\",\"Output\":\"$$1\"}"
	}
	end=$$((SECONDS + $(MOST)))
	left() { echo $$(($(MOST) == 0 ? 0 : end > SECONDS ? end - SECONDS : 1)); }
	{
		# The tests of whole programs wait most of the time, and run beside the others.
		timeout -k 10 $$(left) $(WHOLE) >$(BIN)/whole.json &
		timeout -k 10 $$(left) $(RACE) -p $$(nproc) $(LONG) || failed 'go test $(LONG)'
		timeout -k 10 $$(left) $(RACE) -p $$(($$(nproc) * 2)) \
			$$(comm -23 <(go list ./... | sort) <(go list $(LONG) ./cmd/banmesh/e2e | sort)) || failed 'go test ./...'
		whole=0
		wait $$! || whole=$$?
		cat $(BIN)/whole.json # first: testsum looks for what failed before it is told that something did
		(exit $$whole) || failed 'go test ./cmd/banmesh/e2e'
		go test -json .ci/testsum.go .ci/testsum_test.go || failed 'go test .ci/testsum_test.go'
		go test -json .ci/package/sbom.go .ci/package/sbom_test.go || failed 'go test .ci/package/sbom_test.go'
		go test -json .ci/package/oci.go .ci/package/oci_test.go || failed 'go test .ci/package/oci_test.go'
	} | $(BIN)/testsum $(RACE) -count=1

## figures: what the tests measure, against the bars
.PHONY: figures
figures: deps
	@go build -o $(BIN)/testsum .ci/testsum.go
	BANMESH_ALL=1 .ci/figures | BANMESH_ALL=1 $(BIN)/testsum go test -json -count=1

## bench: the benchmarks
.PHONY: bench
bench:
	go test -run '^$$' -bench . -benchmem -timeout $(TIMEOUT) ./...

## fuzz: every decoder and parser, and the properties of each package, $(FUZZTIME) each
.PHONY: fuzz
fuzz:
	@.ci/fuzz $(FUZZTIME)

## soak: the long runs, $(SOAK) each; the seeds of simulations that failed are kept in bin/seeds
.PHONY: soak
soak: deps
	mkdir -p $(BIN)
	BANMESH_ALL=1 BANMESH_SEEDS=$(CURDIR)/$(BIN)/seeds BANMESH_SOAK=$(SOAK) go test -v -count=1 -p 1 -timeout 24h -run '^TestSoak' ./...

## mutants: whether the tests of PKG notice N small mistakes in it, chosen by SEED
.PHONY: mutants
mutants:
	go run ./internal/mutants -n $(N) -seed $(SEED) -short=$(SHORT) $(PKG)

## vulncheck: known vulnerabilities; DB=DIR takes a copy of https://vuln.go.dev
.PHONY: vulncheck
vulncheck:
	go tool govulncheck $(if $(DB),-db file://$(abspath $(DB))) ./...

## lint: gofmt, vet, staticcheck
.PHONY: lint
lint:
	@.ci/lint

## clean: what the targets above made
.PHONY: clean
clean:
	rm -rf bin dist

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
