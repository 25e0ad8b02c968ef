# Each target is one line that calls one thing; `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help run test check bench clients eif kernel lab clean
CONFIG ?= config/enclave
OUT ?= target/eif

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: lab ## boot parent and enclave here, bring up the tunnel, show that it works
	@target/release/lab run

test: ## everything a change must pass: lints, unit tests, the lab's tests
	@bootstrap/make/test.sh

check: ## the static part of it: format, lints, scripts, licences
	@bootstrap/make/check.sh --licences

bench: lab ## throughput and latency beside their references, into docs/benchmark/
	@target/release/lab bench

clients: lab ## web3.py, ethers, viem, cast, hardhat and alloy sign with an enclave in the lab
	@target/release/lab clients

eif: ## the enclave image of CONFIG=config/enclave into OUT=target/eif
	@bootstrap/eif/image.sh $(CONFIG) $(OUT)

kernel: ## the enclave kernel alone
	@enclave-kernel/build.sh

lab: ## install what is missing, build what the lab needs (cached)
	@bootstrap/make/setup.sh

clean: ## stop the lab, remove build output; the cache of kernels and QEMU stays
	@bootstrap/make/clean.sh
