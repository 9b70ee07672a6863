# SPDX-License-Identifier: Apache-2.0
#
# make              build everything into build/ (does the set-up first, see .ci/deps)
# make deps         install all there is to install, and build the static libraries
# make run          run the sample pipeline in a sandbox on this machine
# make test         unit and integration tests; T=REGEX selects, JOBS=N at once
# make bench | soak | fuzz | fuzz-short | lint | lint-deps | docs | install | clean | distclean
#
# V=1 shows the commands. WERROR=1 (and CI) makes warnings errors. SAN=1 builds with the address
# and undefined behaviour sanitizers into build/san, CC=clang with clang into build/clang; both
# build everything, the worker too, for glibc.
#
# Sources are found by directory; a new file needs no change here.

VERSION	:= 0.1.0
PREFIX	?= /usr/local
DESTDIR	?=
RUN	?= templates/pipelines/currencies.yaml
DATA	:= /usr/share/iso-codes/json

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG	:= $(findstring clang,$(CC))
O	:= build$(if $(CLANG),/clang)$(if $(SAN),/san)
ARCH	:= $(shell uname -m)
Q	:= $(if $(V),,@)
say	= $(if $(V),,@printf '  %-6s %s\n' $(1) $(2:$(O)/%=%))

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules -j$(shell nproc)

# --- sources -------------------------------------------------------------------------------------

protocol_c	:= $(wildcard protocol/base/*.c protocol/*.c)
worker_c	:= $(filter-out worker/main.c,$(wildcard worker/*.c worker/*/*.c))
proxy_c		:= $(filter-out proxy/main.c proxy/cmd/%,$(wildcard proxy/*.c proxy/*/*.c)) \
		   $(wildcard sdk-wrapper/*.c)
cmd_c		:= $(wildcard proxy/cmd/*.c)
chaos_c		:= $(filter-out %/main.c,$(wildcard mocks/chaos/*.c))
e2b_c		:= $(filter-out %/main.c,$(wildcard mocks/e2b/*.c))
parts		:= protocol worker proxy cmd chaos e2b

unit_c		:= $(wildcard tests/unit/*/test_*.c)
bench_c		:= $(wildcard tests/bench/*.c)
fuzz_c		:= $(wildcard tests/fuzz/fuzz_*.c)
# Scripts whose names start with "lib" or "_" are there to be included.
scripts		:= $(foreach d,integration conformance fault,\
		   $(foreach e,sh py,$(wildcard tests/$(d)/*.$(e))))
scripts		:= $(foreach s,$(scripts),$(if $(filter lib% _%,$(notdir $(s))),,$(s)))

programs	:= $(if $(wildcard proxy/main.c),$(O)/farstep) \
		   $(if $(wildcard worker/main.c),$(O)/farstep-worker) \
		   $(if $(wildcard mocks/chaos/main.c),$(O)/farstep-chaos) \
		   $(if $(wildcard mocks/e2b/main.c),$(O)/farstep-mock-e2b)
unit		:= $(unit_c:%.c=$(O)/%)
bench		:= $(bench_c:%.c=$(O)/%)

# --- flags ---------------------------------------------------------------------------------------

warnings	:= -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
		   -Wundef -Wpointer-arith -Wwrite-strings \
		   $(if $(CI)$(WERROR),-Werror)
common		:= -std=gnu11 -g -D_GNU_SOURCE= -I. -ffile-prefix-map=$(CURDIR)/= -MMD -MP $(warnings)
sections	:= -ffunction-sections -fdata-sections
sanitize	:= -fsanitize=address,undefined -fno-sanitize-recover=undefined

# glibc: proxy, mocks, tests.
gnu		:= build/deps/$(ARCH)-linux-gnu
gnu_cflags	:= $(common) -isystem $(gnu)/include -fPIE -fstack-protector-strong
gnu_ldflags	:= -pie -Wl,--gc-sections,--as-needed,-z,relro,-z,now,-z,noexecstack -L$(gnu)/lib
ifdef SAN
gnu_cflags	+= -O1 -fno-omit-frame-pointer $(sanitize)
gnu_ldflags	+= $(sanitize)
else
gnu_cflags	+= -O2 $(sections) -D_FORTIFY_SOURCE=2 -fstack-clash-protection \
		   $(if $(filter x86_64,$(ARCH)),-fcf-protection)
endif
libs		:= -lwebsockets -larchive -lcjson -lnettle -lzstd
gnu_libs	:= $(libs) -lyaml -lm
# The mock cloud alone serves HTTP.
e2b_libs	:= -lmicrohttpd -lz

# musl: the worker. Its gcc wrapper cannot link static-pie by itself.
musl		:= build/deps/$(ARCH)-linux-musl
musl_cc		:= musl-gcc
musl_crt	:= /usr/lib/$(ARCH)-linux-musl
musl_cflags	:= $(common) -isystem $(musl)/include -Os $(sections) -fPIE -fstack-protector-strong \
		   -fcf-protection=none -fno-asynchronous-unwind-tables
musl_ldflags	:= -static -nostartfiles -L$(musl)/lib \
		   -Wl,-pie,--no-dynamic-linker,-z,text,-z,relro,-z,now,-z,noexecstack,--gc-sections
musl_begin	= $(musl_crt)/rcrt1.o $(musl_crt)/crti.o `gcc -print-file-name=crtbeginS.o`
musl_end	= `gcc -print-file-name=crtendS.o` $(musl_crt)/crtn.o

# --- all -----------------------------------------------------------------------------------------

.PHONY: all deps run test bench soak fuzz fuzz-short fuzz-run lint lint-deps docs install clean \
	distclean FORCE
all: build/deps/complete $(programs)

# Cheap when there is nothing to do; changes the date only when the libraries changed.
build/deps/complete: FORCE
	$(Q).ci/deps

deps:
	$(Q).ci/deps --tools

$(O)/gnu/%.o: %.c build/deps/complete Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(gnu_cflags) $(CFLAGS) -c -o $@ $<

$(O)/musl/%.o: %.c build/deps/complete Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(musl_cc) $(musl_cflags) $(CFLAGS) -c -o $@ $<

# The scripts in it are no headers: the compiler tells make nothing of them.
$(O)/gnu/proxy/dependencies/scripts.o: $(wildcard proxy/dependencies/*.py proxy/dependencies/*.js)

# One archive a part, so that a program or a test takes from it only what it uses.
define archive
$(O)/$(1)/$(2).a: $$($(2)_c:%.c=$(O)/$(1)/%.o) $(O)/$(1)/$(2).list | build/deps/complete
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcsD $$@ $$(filter %.o,$$^)
endef
$(foreach p,$(parts),$(eval $(call archive,gnu,$(p))))
$(foreach p,protocol worker,$(eval $(call archive,musl,$(p))))

# Changes when a source file appears or goes.
$(O)/%.list: FORCE
	@mkdir -p $(@D)
	@echo '$($(*F)_c)' | cmp -s - $@ || echo '$($(*F)_c)' >$@

# Only this one object knows the commit.
$(O)/build-id: FORCE | build/deps/complete
	@mkdir -p $(@D)
	@id=`git describe --always --dirty 2>/dev/null || echo unknown`; \
	echo $(VERSION) $$id | cmp -s - $@ || echo $(VERSION) $$id >$@
$(O)/gnu/protocol/base/version.o $(O)/musl/protocol/base/version.o: $(O)/build-id
$(O)/gnu/protocol/base/version.o $(O)/musl/protocol/base/version.o: \
	override CFLAGS += -DFARSTEP_VERSION='"$(VERSION)"' -DFARSTEP_BUILD='"$(shell cut -d' ' -f2 $(O)/build-id)"'

define link
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(gnu_ldflags) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(1) $(gnu_libs)
endef

$(O)/farstep: $(O)/gnu/proxy/main.o $(O)/gnu/cmd.a $(O)/gnu/proxy.a $(O)/gnu/protocol.a
	$(call link)
$(O)/farstep-chaos: $(O)/gnu/mocks/chaos/main.o $(O)/gnu/chaos.a $(O)/gnu/protocol.a
	$(call link)
$(O)/farstep-mock-e2b: $(O)/gnu/mocks/e2b/main.o $(O)/gnu/e2b.a $(O)/gnu/protocol.a
	$(call link,$(e2b_libs))

ifeq ($(O),build)
# The .debug twin keeps the symbols for a debugger and core files.
$(O)/farstep-worker: $(O)/musl/worker/main.o $(O)/musl/worker.a $(O)/musl/protocol.a
	$(call say,LD,$@)
	$(Q)$(musl_cc) $(musl_ldflags) $(LDFLAGS) -o $@.debug $(musl_begin) $(filter %.o %.a,$^) \
		$(libs) $(musl_end)
	$(Q)strip -o $@.tmp $@.debug && mv $@.tmp $@
else
$(O)/farstep-worker: $(O)/gnu/worker/main.o $(O)/gnu/worker.a $(O)/gnu/protocol.a
	$(call link)
endif

# --- run and tests -------------------------------------------------------------------------------

# The sample's input comes from Debian's package iso-codes, which deps installs.
run: all
	$(Q)rm -rf $(O)/sample && mkdir -p $(O)/sample/data
	$(Q)cp $(RUN) $(O)/sample/ && cp $(DATA)/iso_3166-1.json $(DATA)/iso_4217.json $(O)/sample/data/
	$(O)/farstep run --run-dir $(O)/sample/runs --out $(O)/sample/out $(O)/sample/$(notdir $(RUN))
	@echo; cat $(O)/sample/out/report/report.txt; echo
	$(O)/farstep verify --run-dir $(O)/sample/runs last

test: all $(unit)
	$(Q)BUILD=$(CURDIR)/$(O) tests/run.sh $(unit) $(scripts)

# What a unit test links with, by its directory.
unit_protocol	:= $(O)/gnu/protocol.a
unit_worker	:= $(O)/gnu/worker.a $(O)/gnu/protocol.a
unit_proxy	:= $(O)/gnu/cmd.a $(O)/gnu/proxy.a $(O)/gnu/protocol.a
unit_sdk	:= $(O)/gnu/proxy.a $(O)/gnu/protocol.a
unit_mocks	:= $(O)/gnu/chaos.a $(O)/gnu/e2b.a $(O)/gnu/protocol.a
define unit_rule
$(O)/tests/unit/$(1)/%: $(O)/gnu/tests/unit/$(1)/%.o $$(unit_$(1))
	$$(call link,-lcmocka $$(if $$(filter mocks,$(1)),$$(e2b_libs)))
endef
$(foreach s,protocol worker proxy sdk mocks,$(eval $(call unit_rule,$(s))))

everything	:= $(O)/gnu/cmd.a $(O)/gnu/proxy.a $(O)/gnu/worker.a $(O)/gnu/chaos.a $(O)/gnu/e2b.a \
		   $(O)/gnu/protocol.a
$(O)/tests/bench/%: $(O)/gnu/tests/bench/%.o $(everything)
	$(call link,$(e2b_libs))

bench: all $(bench)
	$(Q)BUILD=$(CURDIR)/$(O) python3 tests/bench/run.py

# At full length: 500 random kills, stops and cuts, 500 random links, 500 runs at a bad cloud,
# gigabytes, 1,000 short commands.
soak: all
	$(Q)RUNS=$(or $(RUNS),500) FULL=1 BUILD=$(CURDIR)/$(O) tests/run.sh $(filter tests/fault/% \
		%/memory.py %/core.py %/command.py %/e2b_secrets.py,$(scripts))

.SECONDARY:

# --- fuzzing -------------------------------------------------------------------------------------

# tests/fuzz/fuzz_NAME.c takes its seeds from tests/fuzz/corpus/NAME; what it finds stays in
# build/fuzz/corpus/NAME, and a failing input in build/fuzz/NAME-*.
FUZZ_SECONDS	?= 60
FUZZ_FOUND	?= build/fuzz/corpus
fuzz_names	:= $(fuzz_c:tests/fuzz/fuzz_%.c=%)
fuzz_flags	:= $(common) -isystem $(gnu)/include -O1 -fno-omit-frame-pointer \
		   -fno-sanitize-recover=undefined -DFARSTEP_FUZZ
# The proxy only if a target is about it: half of the building.
fuzz_linked	:= $(protocol_c) $(worker_c) \
		   $(if $(shell grep -l '"proxy/' $(fuzz_c) /dev/null),$(proxy_c))

build/fuzz/obj/%.o: %.c build/deps/complete Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)clang $(fuzz_flags) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<

build/fuzz/lib.a: $(fuzz_linked:%.c=build/fuzz/obj/%.o)
	$(Q)rm -f $@ && ar rcsD $@ $^

build/fuzz/fuzz_%: build/fuzz/obj/tests/fuzz/fuzz_%.o build/fuzz/lib.a
	$(call say,LD,$@)
	$(Q)clang -fsanitize=fuzzer,address,undefined -L$(gnu)/lib -o $@ $^ $(gnu_libs)

fuzz-short: FUZZ_SECONDS := 5
fuzz fuzz-short: deps
	$(Q)$(MAKE) --no-print-directory FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz-run

# What the tests call: it installs nothing.
fuzz-run: $(fuzz_names:%=build/fuzz/fuzz_%)
	$(Q)for n in $(fuzz_names); do \
		mkdir -p $(FUZZ_FOUND)/$$n; \
		set -- $(FUZZ_FOUND)/$$n; [ ! -d tests/fuzz/corpus/$$n ] || set -- $$1 tests/fuzz/corpus/$$n; \
		build/fuzz/fuzz_$$n -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 \
			-print_final_stats=1 -artifact_prefix=build/fuzz/$$n- "$$@" \
			>build/fuzz/$$n.log 2>&1 || { tail -n 60 build/fuzz/$$n.log; exit 1; }; \
		echo "fuzz_$$n: `sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/$$n.log` executions in" \
			"$(FUZZ_SECONDS) s"; done

# --- lint ----------------------------------------------------------------------------------------

lint: deps
	$(Q)tests/lint.sh

lint-deps:
	$(Q)tests/lint.sh --deps

# The tables of protocol/README.md, from protocol/*.def.
docs:
	$(Q).ci/docs

# --- install, clean ------------------------------------------------------------------------------

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/farstep
	install -s $(O)/farstep $(DESTDIR)$(PREFIX)/bin/
	install $(O)/farstep-worker $(DESTDIR)$(PREFIX)/lib/farstep/
	.ci/sbom $(O) $(DESTDIR)$(PREFIX) >$(O)/sbom.json
	install -D -m 644 $(O)/sbom.json $(DESTDIR)$(PREFIX)/share/farstep/sbom.cdx.json
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	set -e; for p in farstep farstep-worker; do .ci/man $(O) $$p >$(O)/$$p.1; \
		install -m 644 $(O)/$$p.1 $(DESTDIR)$(PREFIX)/share/man/man1/; done
	set -e; for f in $(wildcard templates/*/template.yaml templates/*/Dockerfile); do \
		install -D -m 644 -T $$f $(DESTDIR)$(PREFIX)/share/farstep/$$f; done

# build/deps, a link to the cached libraries, stays; distclean takes it along, not the cache.
clean:
	$(Q)[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +

distclean:
	$(Q)rm -rf build

-include $(shell find $(O)/gnu $(O)/musl build/fuzz/obj -name '*.d' 2>/dev/null)
