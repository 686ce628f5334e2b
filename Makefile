# Everything here needs Go and make, and nothing else.
GO       ?= go
BIN      := bin
APP      := dist/app
# The race detector needs a C compiler; without one the tests run without it.
CC_FOUND := $(shell command -v gcc || command -v clang)
RACE     := $(if $(CC_FOUND),-race)

.PHONY: all build stage demo run test race vet clean

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

demo: stage
	@$(BIN)/demo

run: stage
	@$(BIN)/portcullis-local run --app $(APP) --policy docs/examples/policy.json

test: vet
	@$(if $(RACE),:,echo 'no C compiler: testing without the race detector')
	$(GO) test $(RACE) ./...

vet:
	@test -z "$$(gofmt -l cmd handlers internal pkg test)" || { gofmt -l cmd handlers internal pkg test; echo "gofmt would change the files above"; exit 1; }
	$(GO) vet ./...

clean:
	rm -rf $(BIN) dist .local
