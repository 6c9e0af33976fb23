# Every target does its own set-up: Go is enough, and Node.js for web and test.
SHELL := /bin/bash
GO ?= go
BIN := .cache/bin
STATICCHECK := $(BIN)/staticcheck
STATICCHECK_VERSION := v0.8.2
MODULES := . agent agent/prom agent/otelspan
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: build test test-modules web lint fresh bench fuzz overhead clean help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## one static binary: ./sonde
	CGO_ENABLED=0 $(GO) build -trimpath -o sonde ./cmd/sonde

# With the race detector comes checkptr. In SQLite, which was translated from C and works on pointers alone, it doubles the time and finds nothing of ours.
RACE := -race -gcflags=modernc.org/...=-d=checkptr=0

# profiles/... is all arithmetic: under -race its long tests run shortened, and whole without. The end-to-end tests mostly wait: three packages at once keep two cores busy.
test: ## all tests: every module under -race, the web page in a real browser (installs what they need)
	.ci/setup
	$(GO) test $(RACE) -short -p 3 -timeout 14m ./...
	@log=$$(mktemp); (cd web && npm test) >$$log 2>&1 & web=$$!; \
	$(MAKE) --no-print-directory test-modules; modules=$$?; \
	echo "cd web && npm test"; wait $$web; web=$$?; cat $$log; rm -f $$log; exit $$((modules | web))

# What test runs beside the tests of the page.
test-modules:
	$(GO) test ./profiles/... ./internal/testgo
	cd agent && $(GO) test -race -timeout 10m ./...
	cd agent && $(GO) test -run 'TestLooksAllocateNothing|TestMemory$$' . # what the race detector's own memory would hide
	cd agent/prom && $(GO) test -race ./...
	cd agent/otelspan && $(GO) test -race ./...
	cd internal/peertest && GOWORK=off $(GO) test ./...

web: ## build web/dist from its TypeScript
	cd web && npm ci --no-audit --no-fund && npm run build

lint: $(STATICCHECK) ## gofmt, go vet and staticcheck over every module
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt -w these:"; echo "$$out"; exit 1; fi
	@for module in $(MODULES); do echo "vet, staticcheck $$module" && (cd $$module && $(GO) vet ./... && $(CURDIR)/$(STATICCHECK) ./...) || exit 1; done

fresh: ## fail if a built file or a generated document is stale
	.ci/fresh

LOAD ?= 3m
bench: ## the store's figures on the corpus, each a ratio to a yardstick of the same run, beside its limit (some 10 minutes, the first time 20)
	GO=$(GO) LOAD=$(LOAD) .ci/bench

overhead: ## what the agent costs a program, paired runs at several heap sizes
	cd agent && $(GO) test -run '^$$' -bench Overhead -benchtime 1x -timeout 30m ./...

FUZZTIME ?= 60s
fuzz: ## each fuzz target for FUZZTIME (60s)
	.ci/fuzz $(FUZZTIME)

clean: ## remove what the targets built
	rm -rf sonde .cache web/node_modules

$(STATICCHECK):
	GOBIN=$(CURDIR)/$(BIN) GOWORK=off $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
