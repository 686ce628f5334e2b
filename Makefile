# Everything here needs Go and make, and nothing else.
GO       ?= go
BIN      := bin
APP      := dist/app
# The race detector needs a C compiler; without one the tests run without it.
CC_FOUND := $(shell command -v gcc || command -v clang)
RACE     := $(if $(CC_FOUND),-race)

.PHONY: all build stage package package-check demo run bench profile test simulate fuzz crash conformance vet lint image clean

all: build stage

build:
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/... ./test/demo

# The Functions host finds a function only in a folder beside host.json.
stage: build
	@rm -rf $(APP) && mkdir -p $(APP)
	@cp host.json $(APP)/
	@cp $(BIN)/handler $(APP)/handler
	@cp -R functions/* $(APP)/

# What is deployed: dist/portcullis.zip, for linux/amd64, with a list of what is
# in it (portcullis.cdx.json). The same sources make the same bytes.
package:
	@$(GO) run ./build/pack
	@sha256sum dist/portcullis.zip 2>/dev/null || shasum -a 256 dist/portcullis.zip

# The package again, in another folder, to the byte; and the local host runs it.
package-check:
	$(GO) test -count=1 -v ./test/package

# The function app as an image, for Container Apps and Kubernetes.
image:
	docker build -t portcullis .

demo: stage
	@$(BIN)/demo

run: stage
	@$(BIN)/portcullis-local run --app $(APP) --policy docs/examples/policy.json

# Measures, in about eight minutes, and writes the figures into the document.
bench: stage
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./test/bench ./test/bench/nothing
	@$(BIN)/bench --write docs/performance.md

# The large burst over a handler that profiles itself, which no other target
# builds; its profiles go to dist/profile/out.
profile: stage
	@rm -rf dist/profile && mkdir -p dist/profile/out && cp -R $(APP) dist/profile/app
	CGO_ENABLED=0 $(GO) build -trimpath -overlay test/bench/profile/testdata/overlay.json -o dist/profile/app/handler ./cmd/handler
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./test/bench
	@$(BIN)/bench --only burst --bursts 0 --many-bursts 0 --app dist/profile/app --profile dist/profile/out
	@$(GO) tool pprof -top -cum -nodecount 40 dist/profile/app/handler dist/profile/out/open.cpu

test: vet
	@$(if $(RACE),:,echo 'no C compiler: testing without the race detector')
	$(GO) test $(RACE) ./...
	$(if $(RACE),$(GO) test ./test/simulate ./test/crash)

# The use cases under an adversary. SEED=n plays one seed and tells its story.
SEEDS ?= 5000
FROM  ?= 1
simulate:
	$(GO) test -count=1 -v -timeout=0 ./test/simulate -run TestSimulation $(if $(SEED),-seed=$(SEED),-seeds=$(SEEDS) -from=$(FROM))

# What the stand-ins are held against: the vendors' own tests out of their
# modules, Azurite, the JavaScript SDKs, and two tables of public facts. It
# downloads them, and takes minutes.
conformance: stage
	$(GO) test -count=1 -v ./test/conformance/resourcemanager ./test/conformance/functionshost
	$(GO) run ./test/conformance/aztables
	$(GO) run ./test/conformance/azurite
	$(GO) run ./test/conformance/javascript
	$(GO) run ./test/conformance/azservicebus
	PORTCULLIS_TEST_CLIENTS=1 $(GO) test -count=1 -v -run 'Clients' ./test/e2e

# Every fuzz target in turn, for TIME each: of what parses the outside, and of
# the stand-ins' parsers. What a target finds is kept in its testdata/fuzz.
TIME     ?= 30s
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(TIME) -fuzzminimizetime 100x $$package; \
	  done; \
	done

# Rounds of real crashes on the local stack, each with a seed of its own; SEED
# plays one again.
ROUNDS   ?= 10
crash:
	ROUNDS=$(ROUNDS) SEED=$(SEED) $(GO) test -count=1 -timeout 0 -v ./test/crash

vet:
	@test -z "$(gofmt -l build cmd docs handlers internal pkg test)" || { gofmt -l build cmd docs handlers internal pkg test; echo "gofmt would change the files above"; exit 1; }
	$(GO) vet ./...

lint: vet
	$(GO) tool staticcheck ./...

clean:
	rm -rf $(BIN) dist .local
