# Two commands do everything on a fresh machine: `make demo` and `make test`.
#
# The virtual environment is made by the distribution's own Python, because bcc belongs to it.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := 6.1 6.12 7.3
QUICK_KERNEL := 6.12
VM := tests/vm/run
# In a guest that a test wants to have otherwise than tests/kernel/run.py starts it.
GUEST_PYTEST := $(BIN)/python -m pytest -p no:cacheprovider -p tests.deadlines
# What clang-format formats.
C_FILES = $(wildcard bpf/*.c bpf/*.h tests/workload/*.[ch] tests/workload/*/*.[ch])
# How many times slower than they could guests of tests shall run.
SLOW ?= 1
export KSMWATCH_TEST_SLOW := $(SLOW)

# What apt has to bring. qemu and the compiler are for the tests and the demo only.
PACKAGES := python3-bpfcc python3-venv qemu-system-x86 busybox-static gcc libc6-dev make tmux \
	openssl zsh fish mandoc

# What building the Debian package and booting it take besides.
DEB_PACKAGES := debhelper dh-python dpkg-dev pybuild-plugin-pyproject python3-all python3-hatchling
ROOT_PACKAGES := mmdebstrap e2fsprogs
MODEL_PACKAGES := spin gcc libc6-dev
SUITES := trixie bookworm

.PHONY: help demo test model test-races-some test-quick test-all test-unit test-coverage test-callers test-callers-some test-kernels test-arm64 workload-arm64 test-kernel test-kernel-quick test-soaks test-alerts test-alerts-healthy test-fleet test-stores test-page pictures soak accuracy bench bench-report bench-hotpath bench-top bench-page screenshot lint format docs dashboards fixtures setup packages \
	kernels workload clean

help: ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: setup ## Live counts of made-up tenants, on this host or on the newest test kernel
	@$(BIN)/python demo/run.py

test: lint test-unit model test-callers-some test-races-some test-kernel test-arm64-some ## Everything that CI runs

test-quick: lint test-unit test-kernel-quick ## Lint, units, and what counts most on one kernel

test-all: test test-kernel-rest test-realtime test-races test-alerts test-stores test-fleet test-systemd test-abuse test-page test-soaks ## Everything; takes hours

test-unit: setup ## Pure units and recorded kernel fixtures; no root, no kernel
	$(BIN)/pytest --numprocesses=auto $(UNIT_OPTIONS) tests/unit

test-coverage: ## The same, and how many branches of ksmwatch/ they take
	@$(MAKE) --no-print-directory test-unit UNIT_OPTIONS="--cov --cov-report=term:skip-covered"

test-kernels: setup workload ## A part of the kernel tests on every kernel that Debian has: ONLY="6.17 7.3-rt"
	$(BIN)/python -m tests.kernel.everywhere $(ONLY)
	$(BIN)/python -m tools.generate

ARM64_PACKAGES := qemu-system-arm ipxe-qemu mmdebstrap gcc-aarch64-linux-gnu libc6-dev-arm64-cross

workload-arm64: setup
	@deploy/packages $(ARM64_PACKAGES)
	@$(MAKE) --no-print-directory -C tests/workload BUILD=build/aarch64 CC=aarch64-linux-gnu-gcc

test-arm64: workload-arm64 ## The same on arm64 in QEMU, which is slow: ONLY="6.12-16k"
	$(BIN)/python -m tests.kernel.everywhere --arch arm64 $(or $(ONLY),6.1 6.12 6.12-16k 7.3 7.3-16k)
	$(BIN)/python -m tools.generate

.PHONY: test-arm64-some
test-arm64-some: workload-arm64
	$(VM) --arch arm64 --kernel $(QUICK_KERNEL) --memory 3G -- $(GUEST_PYTEST) -v -m "not once" \
	  -k "not kprobe" tests/kernel/test_lifecycle.py tests/kernel/test_fuzz.py

test-races-some: setup workload kernels
	$(BIN)/python -m tests.races.run --quick 6.12 7.3

test-callers-some: setup kernels
	$(BIN)/python -m tests.callers $(KERNELS)

test-kernel: setup workload kernels ## Real BPF on real KSM, on every test kernel
	$(BIN)/python -m tests.kernel.run $(KERNELS)

test-kernel-quick: setup workload kernels
	$(BIN)/python -m tests.kernel.run --quick $(QUICK_KERNEL)

.PHONY: test-kernel-rest
test-kernel-rest: setup workload kernels
	$(BIN)/python -m tests.kernel.run --rest $(KERNELS)
	$(BIN)/python -m tests.kernel.run 6.12 7.3 -- tests/kernel/test_hardware_errors.py
	$(VM) --kernel $(QUICK_KERNEL) --memory 2G -- $(GUEST_PYTEST) tests/kernel/test_memory_blocks.py
	$(VM) --kernel $(QUICK_KERNEL) --iommu -- $(GUEST_PYTEST) tests/kernel/test_passthrough.py

model: setup ## Every interleaving of the counting protocol, by spin: docs/model
	@deploy/packages $(MODEL_PACKAGES)
	@$(BIN)/python -m tests.model.check

.PHONY: test-realtime
test-realtime: setup workload ## PREEMPT_RT: hooks that are preempted, a caller that was inlined
	@$(VM) --fetch --kernel 6.12-rt && $(VM) --fetch --kernel 7.3-rt
	$(BIN)/python -m tests.kernel.run 6.12-rt 7.3-rt -- tests/kernel/test_migration.py \
	  tests/kernel/test_pressure.py

test-callers: setup ## Who calls the hooked functions, by the code of every kernel in the cache
	$(BIN)/python -m tests.callers

test-races: setup workload kernels ## Force interleavings on real kernels: tests/races
	$(BIN)/python -m tests.races.run 6.12 7.3

.PHONY: test-races

test-alerts: setup workload kernels ## Each alert provoked on a real kernel, in the real Prometheus and Alertmanager
	$(BIN)/python -m tests.kernel.run 6.12 -- tests/alerts/test_alerts.py

test-alerts-healthy: setup workload kernels ## An hour of load on a healthy host: no alert may fire
	@$(BIN)/python -m tests.alerts.healthy

test-stores: setup ## Remote write of made-up hosts, kill -9 of stores and sender; Performance Co-Pilot
	$(BIN)/pytest -p no:cacheprovider tests/stores

test-fleet: setup workload kernels ## Three guests, a Prometheus that scrapes them, one above, and two stores
	@$(BIN)/python -m tests.fleet.run

test-systemd: setup workload kernels deb-packages ## The Debian package under systemd: SUITES="trixie bookworm"
	@deploy/packages $(ROOT_PACKAGES)
	@for suite in $(SUITES); do $(VM) --fetch --root $$suite || exit 1; done
	$(BIN)/python -m tests.systemd.run $(SUITES)

wheel: setup ## dist/*.whl, with BPF sources, units, rules and dashboards
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --wheel-dir dist .
	@ls dist/*.whl

deb: setup deb-packages ## dist/*.deb, for each of SUITES
	@for suite in $(SUITES); do deploy/deb $$suite || exit 1; done

.PHONY: test-systemd wheel deb deb-packages

deb-packages:
	@deploy/packages $(DEB_PACKAGES)

SEED ?= 1
OPS ?= 20000
KERNEL ?= 6.12
# Of memory; with two, ksmd merges within each and pages are moved between them.
NODES ?= 1
REQUESTS ?= 10000
# Seconds between kill -9 of the daemon; 0 for never.
RESTART ?= 0
# With 1, the guest's CPUs (as many as CPUS) run at the same time, by a newer QEMU.
PARALLEL ?=
CPUS ?= $(if $(PARALLEL),2,$(NODES))
# Operations of tests/workload/ksmfuzz to leave out, and options of the daemon.
WITHOUT ?=
DAEMON ?=

test-abuse: setup ## 10,000 bad requests, 500 connections, changing files: nothing is left behind
	@$(BIN)/python -m tests.abuse $(REQUESTS)

test-page: setup ## The page for a person in a headless browser; pictures go to build/page
	@deploy/packages chromium
	$(BIN)/pytest -p no:cacheprovider tests/page

soak: setup workload kernels ## Random programs against the page tables: SEED= OPS= KERNEL= ...
	@$(if $(PARALLEL),deploy/packages mmdebstrap)
	@$(VM) --kernel $(KERNEL) --memory 2G --cpus $(CPUS) --nodes $(NODES) \
	  $(if $(PARALLEL),--parallel) -- $(BIN)/python \
	  -m tests.fuzz.fuzz --seed $(SEED) --ops $(OPS) --pause 5000 --restart $(RESTART) --shrink \
	  $(addprefix --without=,$(WITHOUT)) -- $(DAEMON)

test-soaks: ## 20,000 random operations on every test kernel
	@for k in $(KERNELS); do $(MAKE) --no-print-directory soak KERNEL=$$k || exit 1; done

accuracy: setup workload kernels ## Error of every count on the 2011 benchmark: docs/accuracy.md
	@$(BIN)/python -m bench.accuracy

# In the order in which they run. Each writes bench/results/NAME.json.
BENCHES := hotpath arm64 ages nodes realtime freshness daemon crowds peers scale estimate two-guests history stores
.PHONY: $(BENCHES:%=bench-%)

bench: ## Every benchmark, then docs/overhead.md
	@for name in $(BENCHES); do $(MAKE) --no-print-directory bench-$$name || exit 1; done
	@$(MAKE) --no-print-directory bench-report

bench-report: setup ## docs/overhead.md and its plots, from what was measured last
	@$(BIN)/python -m bench.report

bench-hotpath: setup workload kernels ## Cost of the hooks, in instructions, on every test kernel
	@deploy/packages bpftrace
	@$(BIN)/python -m bench.hotpath

bench-arm64: workload-arm64 ## The same on arm64
	@$(BIN)/python -m bench.arm64

bench-ages: setup workload kernels ## Cost of keeping the age of mappings, in instructions
	@$(BIN)/python -m bench.ages

bench-nodes: setup workload kernels ## Cost of counting mappings by node of memory, in instructions
	@$(BIN)/python -m bench.nodes

bench-realtime: setup workload ## Cost of the hooks and of the daemon on PREEMPT_RT
	@$(VM) --fetch --kernel 6.12-rt && $(VM) --fetch --kernel 7.3-rt
	@$(BIN)/python -m bench.realtime

bench-freshness: setup workload kernels ## How soon a write or an exit shows, here and in the kernel's counters
	@$(BIN)/python -m bench.freshness

bench-daemon: setup workload kernels ## Start and memory of the daemon, and its CPU time when nobody asks
	@$(BIN)/python -m bench.daemon

bench-crowds: setup workload ## CPU time of a snapshot and a scrape, up to 10,000 processes; as root
	@$(BIN)/python -m bench.crowds

bench-peers: setup workload kernels ## ksmwatch beside exporters, a smaps script and a page scan
	@$(BIN)/python -m bench.peers

bench-scale: setup workload kernels ## How the daemon's cost grows, up to ten million merged pages
	@$(BIN)/python -m bench.scale

bench-estimate: setup workload kernels ## What an estimate costs per page, beside a hash and ksmd's scan
	@$(BIN)/python -m bench.estimate

bench-two-guests: setup kernels ## An estimate of two QEMU guests, and what KSM then saved; as root
	@$(BIN)/python -m bench.two_guests

bench-history: setup workload ## What keeping past counts costs the daemon; as root
	@$(BIN)/python -m bench.history

bench-stores: setup ## What a store of a fleet costs, fed with up to 2,000 made-up hosts
	@$(BIN)/python -m bench.stores

bench-top: setup ## CPU time of ksmwatch top per refresh, with 5,000 processes: docs/top.md
	@$(BIN)/python -m bench.top

bench-page: setup ## What a view of the page at / costs: docs/http.md
	@$(BIN)/python -m bench.page

screenshot: setup ## Draw docs/top.svg anew
	@$(BIN)/python -m demo.screenshot

lint: setup ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: setup ## Rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

docs: setup ## Regenerate what is generated below docs/
	$(BIN)/python -m tools.generate

pictures: setup workload kernels ## Draw the dashboards with Grafana's UI components: docs/pictures
	@# Debian's npm does not go with a nodejs from elsewhere, which brings its own.
	@command -v npm >/dev/null || deploy/packages nodejs npm
	@deploy/packages chromium
	@$(BIN)/python -m grafana.draw

dashboards: setup ## Regenerate grafana/dashboards from the code in grafana/
	$(BIN)/python -m grafana.build

fixtures: setup kernels ## Record the kernel fixtures anew, on every test kernel
	@for k in $(KERNELS); do rm -rf tests/fixtures/$$k; \
	  $(VM) --kernel $$k --writable "$(CURDIR)/tests/fixtures" -- \
	    $(BIN)/python tests/fixtures/make.py tests/fixtures/$$k || exit 1; done

setup: packages
	@deploy/venv $(VENV) $(PYTHON)

packages:
	@deploy/venv --check
	@deploy/packages $(PACKAGES)

kernels: setup
	@$(VM) --fetch

workload: setup ## The C programs that tests drive
	@$(MAKE) --no-print-directory -C tests/workload

clean: ## Remove what was made here (the kernels' cache stays)
	rm -rf $(VENV) dist build tests/workload/build
