# GNU make. The commands of the README: `make test` passes the tests, `make install` installs.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
CARGO  ?= cargo
# Seconds of `make stress`.
STRESS_SECONDS ?= 60
# Seconds of `make soak-serve`.
PULL_SECONDS ?= 3600
# Seconds of each target of `make fuzz`.
FUZZ_SECONDS ?= 60

.PHONY: all static test lint deny man test-big test-second test-fresh test-package test-slurm test-tape test-position soak soak-serve loom miri stress fuzz bench bench-archive bench-deliver bench-clone bench-serve bench-shards strokes
.PHONY: tools
.PHONY: install install-files uninstall clean deb dist

all:
	$(CARGO) build --release --locked

# For tape hosts: without any library of the host. A static glibc would load the host's name-service modules.
MUSL   = x86_64-unknown-linux-musl
STATIC = target/static/$(MUSL)/release/ace-dt
static:
	tests/deps.sh static
	RUSTFLAGS="$(REMAP)" CFLAGS="$(CREMAP)" \
	$(CARGO) build --release --locked --target $(MUSL) --target-dir target/static
# No path of this machine is in it, so that it is the same wherever it is built.
CARGO_HOME ?= $(HOME)/.cargo
REMAP  = --remap-path-prefix=$(CURDIR)=/ace-dt --remap-path-prefix=$(CARGO_HOME)=/cargo
CREMAP = -ffile-prefix-map=$(CURDIR)=/ace-dt -ffile-prefix-map=$(CARGO_HOME)=/cargo

# A Debian package of it, and what is handed on: that, a TAR, digests, and what it is made of.
deb: static
	src/package.sh deb
dist: static
	src/package.sh dist

# Everything quick.
test:
	tests/deps.sh test
	$(CARGO) test --locked --workspace

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTFLAGS="--cfg fuzzing" $(CARGO) check --locked --lib --target-dir target/fuzzing
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Licences, sources and advisories of dependencies, as far as the program and its data are there.
deny:
	tests/deny.sh

# Writes the man pages from the program's table of commands and flags.
man:
	$(CARGO) run --locked -- --generate man:man

# A 2 GB archive from a real registry, watched by strace(1): memory, writes, nothing staged. Archives of
# 10 MB that cost verify and list as much as they can.
test-big:
	tests/deps.sh big
	$(CARGO) build --release --locked
	$(CARGO) test --release --locked --test suite -- --ignored --nocapture big:: hostile::

# Other programs that work with registries, to be compared with.
CRANE       = v0.22.1
REGCTL      = v0.11.7
ORAS        = v1.3.6
CONFORMANCE = v0.0.0-20260831232431-97274622c111
tools:
	tests/deps.sh second
	GOBIN=$(CURDIR)/target/tools go install github.com/google/go-containerregistry/cmd/crane@$(CRANE)
	GOBIN=$(CURDIR)/target/tools go install github.com/regclient/regclient/cmd/regctl@$(REGCTL)
	GOBIN=$(CURDIR)/target/tools go install oras.land/oras/cmd/oras@$(ORAS)

# Pushes to and pulls from a second registry implementation, go-containerregistry's, and verifies
# archives of crane, oras and regctl; carries what the distribution specification's conformance program
# lays down in Docker's registry.
test-second: tools
	GOBIN=$(CURDIR)/target/tools go install github.com/opencontainers/distribution-spec/conformance@$(CONFORMANCE)
	$(CARGO) test --locked --test suite -- --ignored --nocapture second:: crane_oras

# A real Slurm with two nodes on this machine makes the shards of a plan, and one node fails; needs root.
test-slurm:
	tests/deps.sh slurm
	$(CARGO) test --locked --test suite -- --ignored --nocapture --test-threads 1 slurm_

# The static binary on a tape drive: Debian's kernel and its st driver in a virtual machine.
test-tape: static
	tests/deps.sh tape
	tests/tape/run.sh $(STATIC)

# Both commands of the README in a Debian that has next to nothing, in a chroot without CAP_SYS_ADMIN.
test-fresh:
	tests/deps.sh fresh
	tests/fresh.sh

# The Debian package in a chroot with little else, and the static binary in an empty one; needs root.
test-package: deb
	tests/deps.sh fresh
	tests/package.sh

# The same on a drive that tells its position, with a kernel of the next release's backports: 120 MB of packages.
test-position: static
	tests/deps.sh tape
	tests/tape/run.sh $(STATIC) debug

# 200 archives from a registry with faults: identical, or refused where the bytes are wrong; 100
# gathers and 200 deliveries into one, all whole; kills; 10,000 archives with a flipped bit.
soak:
	$(CARGO) test --release --locked --test suite soak -- --ignored --nocapture

# An hour of 32 clients of `util serve` that pull at random and break off: no growth.
soak-serve:
	PULL_SECONDS=$(PULL_SECONDS) $(CARGO) test --release --locked --test suite soak_clients -- --ignored --nocapture

# The ring under loom's model checker: all interleavings within each model's bound.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --release --locked --target-dir target/loom -p ace-dt-ring --lib

# The ring under Miri, where the nightly toolchain has it.
miri:
	$(CARGO) +nightly miri test --locked --target-dir target/miri -p ace-dt-ring

# The ring under ThreadSanitizer, long and random. Needs a nightly toolchain; its standard library is
# not instrumented, and tests/tsan.supp says what follows from that.
stress:
	STRESS_SECONDS=$(STRESS_SECONDS) TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp" \
	RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg sanitize_thread" \
	$(CARGO) +nightly test --release --locked --target x86_64-unknown-linux-gnu \
	--target-dir target/stress -p ace-dt-ring --lib -- --include-ignored --nocapture

# Whatever comes from outside, given any bytes: each target of tests/fuzz for FUZZ_SECONDS.
fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh

# Ratios against other programs on this machine. All, about 50 minutes; or one way of the data.
bench: bench-archive bench-deliver bench-clone bench-serve bench-shards

# From registries into archives.
bench-archive: tools
	tests/deps.sh bench
	$(CARGO) bench --locked --bench throughput

# Archives into registries, against curl, skopeo, regctl, oras and crane, and before slow registries. About 15 minutes.
bench-deliver: tools
	tests/deps.sh bench
	$(CARGO) bench --locked --bench deliver

# From registry to registry, and from an archive into many repositories, against regctl, crane, skopeo and oras. About
# 15 minutes.
bench-clone: tools
	tests/deps.sh bench
	$(CARGO) bench --locked --bench clone

# Two shards onto two drives.
bench-shards:
	tests/deps.sh bench
	$(CARGO) bench --locked --bench shards

# Pulling from `util serve` and from Docker's registry. About 5 minutes.
bench-serve:
	tests/deps.sh bench
	$(CARGO) bench --locked --bench serve

# A simulated drive: how often it stops behind `util mbuffer`, and behind mbuffer(1). About 40 minutes.
strokes:
	tests/deps.sh bench
	$(CARGO) bench --locked --bench strokes

install: all install-files

# What was built is laid down, with pages and completions.
BINARY ?= target/release/ace-dt
install-files:
	install -D -m 755 $(BINARY) $(DESTDIR)$(BINDIR)/ace-dt
	install -d $(DESTDIR)$(MANDIR)/man1
	install -m 644 man/*.1 $(DESTDIR)$(MANDIR)/man1
	install -d $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7
	install -m 644 man/*.5 $(DESTDIR)$(MANDIR)/man5
	install -m 644 man/*.7 $(DESTDIR)$(MANDIR)/man7
	install -D -m 644 src/cli/completion/ace-dt.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/ace-dt
	install -D -m 644 src/cli/completion/_ace-dt $(DESTDIR)$(DATADIR)/zsh/site-functions/_ace-dt
	install -D -m 644 src/cli/completion/ace-dt.fish $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/ace-dt.fish

# Takes away what `make install` has put there.
uninstall:
	rm -f $(DESTDIR)$(BINDIR)/ace-dt $(patsubst man/%,$(DESTDIR)$(MANDIR)/man1/%,$(wildcard man/*.1)) \
	$(patsubst man/%,$(DESTDIR)$(MANDIR)/man5/%,$(wildcard man/*.5)) \
	$(patsubst man/%,$(DESTDIR)$(MANDIR)/man7/%,$(wildcard man/*.7)) \
	$(DESTDIR)$(DATADIR)/bash-completion/completions/ace-dt $(DESTDIR)$(DATADIR)/zsh/site-functions/_ace-dt \
	$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/ace-dt.fish

clean:
	$(CARGO) clean
