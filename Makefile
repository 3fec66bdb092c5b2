# What one does with the sources. `make test` is all that a change must pass.
#
# Conventions of the tests:
#   TestFigures…  measures time or memory. Runs without the race detector, which
#                 would falsify it, after the others and one package at a time.
#   TestSoak…     runs for as long as $BANMESH_SOAK says. Only `make soak` runs it.
#   Fuzz…         its seeds and what was ever found run with the other tests, then
#                 it looks further for $(FUZZTEST); `make fuzz` for as long as asked.

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
DIST   ?= dist
BIN    ?= bin

TIMEOUT   ?= 20m
TESTFLAGS ?=
FUZZTEST  ?= 10s
FUZZTIME  ?= 30s
SOAK      ?= 10m
# Where the tests of the page keep what the browser showed.
export BANMESH_SHOTS ?= $(CURDIR)/bin/screenshots

# testing gives the packages whose tests have functions of that name.
testing = $(shell grep -rlE --include='*_test.go' '^func $(1)' . | xargs -r -n1 dirname | sort -u)

## build: the static binary, bin/banmesh
.PHONY: build
build:
	$(STATIC) -o $(BIN)/banmesh ./cmd/banmesh

## cross: the static binaries of both platforms, bin/linux-*/banmesh
.PHONY: cross
cross:
	@for arch in amd64 arm64; do
		GOOS=linux GOARCH=$$arch $(STATIC) -o bin/linux-$$arch/banmesh ./cmd/banmesh
		go version -m bin/linux-$$arch/banmesh | grep -q 'CGO_ENABLED=0'
	done

## package: .deb and .rpm of both platforms, dist/; the same sources give the same bytes
.PHONY: package
package:
	@$(STATIC) -o $(BIN)/banmesh ./cmd/banmesh
	for arch in $(ARCHES); do
		if [ $$arch = $$(go env GOHOSTARCH) ]; then
			install -D $(BIN)/banmesh $(BIN)/linux-$$arch/banmesh
		else
			GOOS=linux GOARCH=$$arch $(STATIC) -o $(BIN)/linux-$$arch/banmesh ./cmd/banmesh
		fi
	done
	VERSION='$(VERSION)' .ci/package/build '$(DIST)' '$(BIN)' $(ARCHES)

## deps: the Debian packages that the tests need; as root where one is missing
.PHONY: deps
deps:
	@.ci/deps

## test: everything, with the race detector; ends with a line that counts the tests
.PHONY: test
test: deps cross
	@{
		failed=0
		CGO_ENABLED=1 go test -json -race -timeout $(TIMEOUT) -skip '^(TestFigures|TestSoak)' $(TESTFLAGS) ./... || failed=1
		go test -json .ci/testsum.go .ci/testsum_test.go || failed=1
		go test -json .ci/package/sbom.go .ci/package/sbom_test.go || failed=1
		.ci/fuzz $(FUZZTEST) -json || failed=1
		figures='$(call testing,TestFigures)'
		if [ -n "$$figures" ]; then
			go test -json -p 1 -timeout $(TIMEOUT) -run '^TestFigures' $(TESTFLAGS) $$figures || failed=1
		fi
		exit $$failed
	} | go run .ci/testsum.go

## bench: the benchmarks
.PHONY: bench
bench:
	go test -run '^$$' -bench . -benchmem -timeout $(TIMEOUT) ./...

## fuzz: every decoder and parser, $(FUZZTIME) each
.PHONY: fuzz
fuzz:
	@.ci/fuzz $(FUZZTIME)

## soak: the long runs, $(SOAK) each
.PHONY: soak
soak: deps
	BANMESH_SOAK=$(SOAK) go test -v -count=1 -p 1 -timeout 24h -run '^TestSoak' ./...

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
