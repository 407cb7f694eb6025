# Muster is built and tested with Go alone. What else helps is used if it is there, and missed out loud if it is not.

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
TIMEOUT     ?= 15m
FUZZTIME    ?= 10s

JS := test/sdk/js

# The race detector is C: without a compiler the same tests run without it.
CC_FOUND := $(shell command -v "$$($(GO) env CC)" 2>/dev/null)
ifneq ($(CC_FOUND),)
RACE := -race
test vet lint unit: export CGO_ENABLED = 1
endif

.NOTPARALLEL:
.PHONY: help build test clients format vet lint unit fuzz bench curves clean missing

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

build: ## build bin/muster, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/muster ./cmd/muster

test: clients format vet lint unit fuzz missing ## everything that has to hold before a change is shared

clients: ## fetch the JavaScript SDK that test/sdk drives, if npm is there, and PostgreSQL, if this machine is Debian's and yours
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo 'apt-get install postgresql'; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null || \
		printf '\n*** PostgreSQL could not be installed: what needs it will not run ***\n\n'; \
	fi
	@if ! command -v npm >/dev/null 2>&1; then :; \
	elif [ $(JS)/node_modules/.package-lock.json -nt $(JS)/package-lock.json ]; then :; \
	else (cd $(JS) && npm ci --no-audit --no-fund --loglevel=error) || \
		printf '\n*** npm could not fetch the JavaScript SDK: its journeys will not run ***\n\n'; \
	fi

format: ## every Go file is as gofmt would have it
	@echo gofmt; odd=$$(gofmt -l .); if [ -n "$$odd" ]; then printf 'not as gofmt would have it:\n%s\n' "$$odd"; exit 1; fi

vet:
	$(GO) vet ./...

lint: ## staticcheck, run from its own module so that go.mod stays as it is
	$(GO) run $(STATICCHECK) ./...

unit: ## all Go tests, real clients included, with the race detector if there is a C compiler
	@[ -n "$(RACE)" ] || printf '\n*** no C compiler (%s): race detection is OFF ***\n\n' "$$($(GO) env CC)"
	$(GO) test $(RACE) -timeout $(TIMEOUT) ./...
	@# The engine's storms are many more when nothing slows them down.
	$(if $(RACE),CGO_ENABLED=0 $(GO) test -timeout $(TIMEOUT) -run Storm ./internal/engine)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e; \
	for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for name in $$($(GO) test -list '^Fuzz' $$dir | grep '^Fuzz'); do \
			echo "fuzz $$dir $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x -timeout $(TIMEOUT) $$dir; \
		done; \
	done

bench: ## measure, and compare with the targets; bin/bench.json gets it as JSON
	@mkdir -p bin
	$(GO) run ./test/bench -json bin/bench.json

curves: ## measure how it grows, and draw docs/bench/*.svg
	$(GO) run ./test/bench -curves docs/bench

clean: ## remove what was built or fetched
	rm -rf bin $(JS)/node_modules test/sdk/boto3/__pycache__

# go test keeps quiet about skipped tests, so say at the very end, where it is seen, which clients were not there.
missing:
	@miss() { printf '\n*** %s is missing: what needs it was NOT run. To get it: %s ***\n' "$$1" "$$2"; }; \
	command -v aws >/dev/null 2>&1 || miss 'the AWS CLI' 'apt-get install awscli'; \
	command -v mosquitto_rr >/dev/null 2>&1 || miss 'Mosquitto' 'apt-get install mosquitto-clients'; \
	command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || miss "Mosquitto's broker" 'apt-get install mosquitto'; \
	command -v prometheus >/dev/null 2>&1 || miss Prometheus 'apt-get install --no-install-recommends prometheus'; \
	command -v curl >/dev/null 2>&1 || miss curl 'apt-get install curl'; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || miss PostgreSQL 'apt-get install postgresql'; \
	command -v ip >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || miss 'ip (a network that is cut)' 'apt-get install iproute2'; \
	{ python3 -c 'from boto3 import client' || /usr/bin/python3 -c 'from boto3 import client'; } >/dev/null 2>&1 || \
		miss boto3 'apt-get install python3-boto3'; \
	{ command -v node >/dev/null 2>&1 && [ -e $(JS)/node_modules/@aws-sdk/client-iot/package.json ]; } || \
		miss 'the AWS SDK for JavaScript' 'apt-get install nodejs npm, then make clients'; \
	[ -n "$(RACE)" ] || miss 'a C compiler' 'apt-get install gcc libc6-dev (the tests ran, without race detection)'
